"""How the documentation is built.

sphinx-build -W -b html -c docs . docs/_build

The source is the whole repository, so that links between README, docs/ and the pages of
results are the same files here as on GitHub.
"""

import hyperforget_jax as hf

project = "hyperforget_jax"
release = hf.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "docs/**.md",
    "experiments/results/*.md",
    "notebooks/*.ipynb",
    "notebooks/README.md",
]
exclude_patterns = [".*", "docs/_build", "runs", "build", "dist"]
root_doc = "docs/index"

myst_heading_anchors = 4  # Links to headings, as GitHub makes them.
nb_execution_mode = "off"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# As a list, not as members: those of tuples have no docstrings of their own.
napoleon_custom_sections = [("Attributes", "params_style")]
default_role = "code"  # Single backticks of docstrings.

html_theme = "furo"
html_show_copyright = False
html_title = f"hyperforget_jax {release}"
html_additional_pages = {"index": "redirect.html"}
templates_path = ["_templates"]


def _skip_fields(app, what, name, member, skip, options):
    """Leave out the fields of a class, which its docstring describes."""
    described = callable(member) or isinstance(member, property | classmethod)
    return True if what == "class" and not described else None


def setup(app):
    app.connect("autodoc-skip-member", _skip_fields)
