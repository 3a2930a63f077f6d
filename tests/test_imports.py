"""The floors of the house, read off its imports, and what may not come in at all."""

import ast
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

import hyperforget_jax as hf
from tests import sources

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "hyperforget_jax"

# Who stands on whom. Nobody imports from its own floor but itself: evaluation and
# methods never meet. The command and its page stand on the roof, where public names
# are.
FLOORS = (
    {"base", "atomic_write", "nearest", "user_warnings"},
    {"trees", "microbatch"},
    {"checks", "digests"},
    {"manifests"},
    {"requests", "losses", "forgotten", "keys", "chunking", "sharding"}
    | {"checkpointing"},
    {"stacked_requests"},
    {"models", "data"},
    {"training", "metrics", "fisher", "subspace", "diffusion"},
    {"inheritance", "hypernet"},
    {"methods", "evaluation", "audits", "pretrained"},
    {"report", "rivals"},
    {"recipes"},
    {"app"},
    {"command"},
)
LEVEL = {unit: level for level, units in enumerate(FLOORS) for unit in units}
SLOW = {"tensorflow", "tensorflow_datasets", "matplotlib", "networkx", "orbax"}
PICKLES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve"}


def trees(folder):
    """Every file's path, from the root on, and its syntax tree."""
    return {
        path.relative_to(ROOT): sources.parse(path)
        for path in sorted(folder.rglob("*.py"))
    }


def imported(tree):
    """``(module, name or None)`` of every import, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((module, alias.name) for alias in node.names)


def unit_of(module, name):
    """The file or folder of the package that an import reaches into, or None."""
    parts = [*module.split("."), *([name] if name else [])]
    return parts[1] if parts[0] == "hyperforget_jax" and len(parts) > 1 else None


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def calls(tree):
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


PACKAGE_TREES = trees(PACKAGE)


def test_every_file_has_its_floor():
    units = {path.parts[1].removesuffix(".py") for path in PACKAGE_TREES}
    assert units - {"__init__"} == set(LEVEL)


def test_imports_point_down():
    wrong = []
    for path, tree in PACKAGE_TREES.items():
        own = path.parts[1].removesuffix(".py")
        if own == "__init__":
            continue
        for module, name in imported(tree):
            if module.startswith("."):
                wrong.append(f"{path} imports {module}{name}: write the whole name")
            elif module == "hyperforget_jax" and name not in LEVEL:
                if own in ("app", "command"):
                    continue
                wrong.append(f"{path} imports {name} from the roof")
            elif (unit := unit_of(module, name)) not in (None, own):
                if LEVEL[unit] >= LEVEL[own]:
                    wrong.append(f"{path} imports {unit}")
    assert not wrong


def test_nobody_imports_private_names():
    wrong = [
        f"{path}: {module} {name}"
        for path, tree in PACKAGE_TREES.items()
        for module, name in imported(tree)
        if unit_of(module, name)
        and any(map(is_private, [*module.split("."), name or ""]))
    ]
    assert not wrong


def test_experiments_use_public_names_only():
    wrong = []
    for path, tree in trees(ROOT / "experiments").items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                wrong += [
                    f"{path}: import {alias.name} as {alias.asname}"
                    for alias in node.names
                    if alias.name.partition(".")[0] == "hyperforget_jax"
                    and (alias.name, alias.asname) != ("hyperforget_jax", "hf")
                ]
            elif isinstance(node, ast.Attribute) and is_private(node.attr):
                root = node.value
                while isinstance(root, ast.Attribute):
                    root = root.value
                if isinstance(root, ast.Name) and root.id == "hf":
                    wrong.append(f"{path}: {ast.unparse(node)}")
        wrong += [
            f"{path}: from {module} import {name}"
            for module, name in imported(tree)
            if unit_of(module, name)
            and any(map(is_private, [*module.split("."), name or ""]))
        ]
    assert not wrong


def test_the_public_names_are_sorted_and_there():
    assert hf.__all__ == sorted(set(hf.__all__))
    assert all(hasattr(hf, name) for name in hf.__all__)


def test_the_table_of_contents_has_no_logic():
    statements = PACKAGE_TREES[pathlib.Path("hyperforget_jax/__init__.py")].body
    docstring, *rest = statements
    assert isinstance(docstring, ast.Expr)
    assert all(isinstance(line, ast.ImportFrom | ast.Assign) for line in rest)


# What is imported by another name than it is installed by.
INSTALLED_AS = {
    "orbax": "orbax-checkpoint",
    "sklearn": "scikit-learn",
    "array_record": "array-record",
    "tensorflow_datasets": "tensorflow-datasets",
}


def dependencies(extra=None):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = project["optional-dependencies"][extra] if extra else ()
    return {
        re.split(r"[<>=\[]", each)[0] for each in (*named, *project["dependencies"])
    }


def foreign(modules):
    """What must be installed for these modules, by the name it is installed by."""
    tops = {module.partition(".")[0] for module in modules}
    tops -= set(sys.stdlib_module_names) | {"hyperforget_jax"}
    return {INSTALLED_AS.get(name, name) for name in tops}


def test_runtime_dependencies_are_what_the_package_imports():
    page = {"hyperforget_jax/app/server.py", "hyperforget_jax/command/app.py"}
    rest = {str(path) for path in PACKAGE_TREES} - page
    for paths, wanted in ((rest, dependencies()), (rest | page, dependencies("app"))):
        trees = (tree for path, tree in PACKAGE_TREES.items() if str(path) in paths)
        modules = {module for tree in trees for module, _ in imported(tree)}
        assert foreign(modules) == wanted


def test_the_quickstart_needs_no_extra():
    """``pip install .`` is all that README asks for."""
    known = {
        path.stem: tree
        for path, tree in trees(ROOT / "experiments").items()
        if len(path.parts) == 2
    }
    wanted, seen = {"quickstart"}, set()
    while new := {name for name in wanted if name in known} - seen:
        seen |= new
        for name in new:
            wanted |= {module.partition(".")[0] for module, _ in imported(known[name])}
    assert seen > {"quickstart"}
    assert foreign(wanted - seen) <= dependencies()


def test_importing_the_package_imports_nothing_slow():
    code = "import sys, hyperforget_jax; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "hyperforget_jax" in loaded
    assert not loaded & SLOW


@pytest.mark.parametrize("path", PACKAGE_TREES, ids=str)
def test_no_pickle_and_no_print(path):
    tree = PACKAGE_TREES[path]
    assert not {module.partition(".")[0] for module, _ in imported(tree)} & PICKLES
    for call in calls(tree):
        assert not (isinstance(call.func, ast.Name) and call.func.id == "print")
        for keyword in call.keywords:
            if keyword.arg == "allow_pickle":
                assert ast.unparse(keyword.value) == "False"
