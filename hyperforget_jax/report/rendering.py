"""Pages from templates: one self-contained file each."""

import importlib.resources
import os
from collections.abc import Sequence
from typing import Any

import jinja2

from hyperforget_jax import atomic_write
from hyperforget_jax.report.columns import Row
from hyperforget_jax.report.schema import PHASES

__all__ = ["access_of", "write_page"]


def write_page(path: str | os.PathLike, template: str, **values: Any) -> None:
    """Write a page, whole or not at all.

    Args:
        path: the file; its folder is made if need be.
        template: the name of a template in this folder.
        **values: what the template names; one that it lacks is an error. All text is
            escaped but markup.
    """
    folder = importlib.resources.files("hyperforget_jax.report")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(
            lambda name: folder.joinpath(name).read_text(encoding="utf-8")
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(template).render(values)
    # A file name typed in another encoding must not cost the whole page.
    with atomic_write.replace_file(path, errors="replace") as file:
        file.write(text)


def access_of(rows: Sequence[Row]) -> dict[str, list]:
    """Return what each method reads, phase by phase, and which methods do not say."""
    reads = {  # As a dict, to keep their order.
        (row["method"], *(", ".join(row["access"][p]) or "nothing" for p in PHASES)): 0
        for row in rows
        if row["access"]
    }
    unstated = sorted({row["method"] for row in rows if not row["access"]})
    return {"reads": list(reads), "unstated": unstated}
