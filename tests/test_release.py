"""What a release says of itself agrees, wherever it stands."""

import datetime
import pathlib
import re
import tomllib

import yaml
from packaging.requirements import Requirement

import hyperforget_jax as hf

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_changelog_opens_with_the_version_and_its_day():
    heading = re.search(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heading
    version, day = re.fullmatch(r"(\S+) \((.+)\)", heading.group(1)).groups()
    assert version == hf.__version__ and "version" not in PROJECT
    assert datetime.date.fromisoformat(day) == citation()["date-released"]


def test_it_can_be_cited_as_the_format_and_zenodo_want_it():
    """What the schema of CFF 1.2.0 requires, and nothing that it does not know."""
    found = citation()
    assert {"cff-version", "message", "title", "authors"} <= set(found)
    assert found["cff-version"] == "1.2.0" and found["type"] == "software"
    assert str(found["version"]) == hf.__version__
    assert found["license"] == PROJECT["license"]
    known = {"abstract", "date-released", "doi", "keywords", "license", "type"}
    known |= {"repository-code", "url", "version", "cff-version", "message", "title"}
    assert set(found) <= known | {"authors"}
    for author in found["authors"]:  # An entity, or a person.
        assert set(author) in ({"name"}, {"family-names", "given-names"})
    assert len(set(found["keywords"])) == len(found["keywords"])


def test_everything_needed_has_one_lower_bound():
    for requirement in map(Requirement, PROJECT["dependencies"]):
        operators = [each.operator for each in requirement.specifier]
        assert operators.count(">=") == 1, requirement


def citation():
    return yaml.safe_load((ROOT / "CITATION.cff").read_text())
