"""``hyperforget doctor``: what is installed, where things are, what is missing."""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
from typing import Any

import jax
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich.console import Console
from rich.table import Table

from hyperforget_jax import data
from hyperforget_jax.data.cache import cache_folder
from hyperforget_jax.data.normalisation import KNOWN
from hyperforget_jax.data.tfds_source import data_folder, prepared_folder

__all__ = ["Doctor"]

_PACKAGE = "hyperforget-jax"
_NVIDIA = pathlib.Path("/dev/nvidia0")


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Check the installation: package versions, devices, data sets, what is missing.

    The exit code is 0 if the quickstart can run, and 1 if something is missing.
    """

    json: bool = False
    """Print the result as JSON instead of a table."""

    def run(self) -> int:
        """Look, print, and return the exit code."""
        found = _examine()
        if self.json:
            sys.stdout.write(json.dumps(found, indent=2) + "\n")
        else:
            _print(found)
        return 0 if found["ready"] else 1


def _examine() -> dict[str, Any]:
    packages, missing = _packages()
    devices, lacking = _devices()
    folders = {"data": data_folder(), "cache": cache_folder()}
    sets, unread = _data_sets(folders["data"])
    missing += lacking + unread
    # What follows is no more than a pity.
    advice = []
    if not _can_be_written(folders["cache"]):
        advice.append(
            f"{folders['cache']} cannot be written, so data are decoded at every start:"
            " name another folder by HYPERFORGET_CACHE_DIR"
        )
    if not any("gpu" in each for each in devices) and _NVIDIA.exists():
        advice.append(
            "there is an NVIDIA device that JAX does not see: "
            f"pip install '{_PACKAGE}[cuda]'"
        )
    unprepared = [name for name, state in sets.items() if state != "ready"]
    if unprepared:
        advice.append(
            f"not prepared in {folders['data']}: {', '.join(unprepared)}. If they are "
            "elsewhere, name that folder by TFDS_DATA_DIR; else "
            "hyperforget_jax.data.load(NAME) says what to run"
        )
    return {
        "packages": packages,
        "devices": devices,
        "folders": {name: str(folder) for name, folder in folders.items()},
        "data": sets,
        "missing": missing,
        "advice": advice,
        "ready": not missing,
    }


def _packages() -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return versions by package, beside those that are supported, and what to do."""
    try:
        own = importlib.metadata.metadata(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return {}, [f"{_PACKAGE} is not installed: pip install ."]
    python = platform.python_version()
    wanted = own["Requires-Python"]
    found: dict[str, dict[str, Any]] = {
        _PACKAGE: {"installed": own["Version"], "wanted": "", "supported": True},
        "python": {
            "installed": python,
            "wanted": wanted,
            "supported": SpecifierSet(wanted).contains(python, prereleases=True),
        },
    }
    missing = []
    if not found["python"]["supported"]:
        missing.append(f"Python {python} is not {wanted}: make an environment of one")
    for text in importlib.metadata.requires(_PACKAGE) or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is not None and not marker.evaluate({"extra": ""}):
            continue
        specifier = requirement.specifier
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            version = None
        fits = version is not None and specifier.contains(version, prereleases=True)
        found[requirement.name] = {
            "installed": version,
            "wanted": str(specifier),
            "supported": fits,
        }
        if not fits:
            state = "is not installed" if version is None else f"is {version}"
            missing.append(
                f"{requirement.name} {state}: "
                f"pip install '{requirement.name}{specifier}'"
            )
    return found, missing


def _devices() -> tuple[list[str], list[str]]:
    try:
        found = [f"{each.platform}: {each.device_kind}" for each in jax.devices()]
    except RuntimeError as error:
        remedy = "unset JAX_PLATFORMS, or install the JAX that it names"
        return [], [f"JAX finds no device ({error}): {remedy}"]
    return found, []


def _data_sets(folder: pathlib.Path) -> tuple[dict[str, str], list[str]]:
    """Return which known data sets are there, and what the quickstart lacks of them."""
    found, missing = {}, []
    for name in sorted(KNOWN):
        if name == "digits":
            try:
                data.load(name)
                found[name] = "ready"
            except Exception as error:  # Whatever it is, it is to be said.
                found[name] = "damaged"
                missing.append(
                    f"digits cannot be read ({error}): "
                    "pip install --force-reinstall scikit-learn"
                )
            continue
        try:
            # A folder that is not there need not be looked up, which imports much.
            there = (folder / name).is_dir() and prepared_folder(name, folder)
        except (OSError, ValueError):
            there = False
        found[name] = "ready" if there else "not prepared"
    return found, missing


def _can_be_written(folder: pathlib.Path) -> bool:
    """Tell whether a folder, or the nearest one above it that is there, can be."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return there.is_dir() and os.access(there, os.W_OK)


def _print(found: dict[str, Any]) -> None:
    table = Table("package", "installed", "supported")
    for name, package in found["packages"].items():
        mark = "" if package["supported"] else " (not this one)"
        table.add_row(name, package["installed"] or "–", package["wanted"] + mark)
    console = Console()
    console.print(table)
    for name, lines in (
        ("Devices", found["devices"]),
        ("Folders", [f"{name}: {path}" for name, path in found["folders"].items()]),
        ("Data", [f"{name}: {state}" for name, state in found["data"].items()]),
        ("Missing", found["missing"]),
        ("Advice", found["advice"]),
    ):
        for line in lines:
            console.print(f"{name}: {line}", markup=False, highlight=False)
    console.print("The quickstart can run." if found["ready"] else "Not ready.")
