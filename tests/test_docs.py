"""The documentation builds without a warning, names everything, and links hold."""

import html.parser
import inspect
import pathlib
import re
import subprocess
import sys
import urllib.parse
import zlib

import pytest

import hyperforget_jax as hf

ROOT = pathlib.Path(__file__).parents[1]


def public(module):
    """Every public name below a module, in full; that of hf for what hf has too."""
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.ismodule(value):
            yield from public(value)
        elif getattr(hf, name, None) is value:
            yield f"{hf.__name__}.{name}"
        else:
            yield f"{module.__name__}.{name}"


class Page(html.parser.HTMLParser):
    """Where a page leads, and where it can be led to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        del tag
        for name, value in attrs:
            if name == "id":
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                # What follows a question mark is for caches alone.
                self.links.append(re.sub(r"\?[^#]*", "", urllib.parse.unquote(value)))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("docs")
    command = "-m sphinx -W --keep-going -q -b html -c docs . ".split()
    done = subprocess.run(
        [sys.executable, *command, out], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_every_public_name_is_documented(built):
    # After four lines of head: one object a line, its name first.
    inventory = (built / "objects.inv").read_bytes().split(b"\n", 4)[-1]
    lines = zlib.decompress(inventory).decode().splitlines()
    documented = {line.split()[0] for line in lines if " py:" in line}
    assert len(documented) > 300
    assert set(public(hf)) <= documented, set(public(hf)) - documented


@pytest.mark.slow
def test_links_between_built_pages_lead_somewhere(built):
    pages = {path: Page(path) for path in built.rglob("*.html")}
    assert built / "README.html" in pages
    links = [
        (path, link)
        for path, page in pages.items()
        for link in page.links
        if not re.match("[a-z]+:|//", link)
    ]
    broken = []
    for path, link in links:
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        missing = target in pages and anchor not in pages[target].anchors
        if missing or not target.exists():
            broken.append((path.name, link))
    assert len(links) > 1_000 and not broken, broken


def test_every_name_and_module_stands_in_the_reference():
    text = "".join(page.read_text() for page in (ROOT / "docs/api").glob("*.md"))
    named = set(re.findall(r":: hyperforget_jax\.(\w+)\n", text))
    assert set(hf.__all__) <= named
