"""``hyperforget report``: the page of a record, made again."""

import dataclasses
import functools
import pathlib
import sys
from typing import Annotated, Any

import tyro

from hyperforget_jax import report
from hyperforget_jax.report.records import read_json

__all__ = ["Report"]


@dataclasses.dataclass(frozen=True)
class Report:
    """Write the HTML page of a saved record: a results.json, or that of an audit study.

    Figures that need more than the record are left out: training losses, accuracy by
    class, images. The exit code is 0, or 2 if the file is not such a record.
    """

    record: Annotated[
        tyro.conf.Positional[pathlib.Path], tyro.conf.arg(metavar="FILE.json")
    ]
    """Record that hyperforget forget, hf.report.compare or a study wrote; or a folder
    with results.json."""
    out: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="FILE.html")] = None
    """Page to write; by default FILE.html beside FILE.json."""

    def run(self) -> int:
        """Write the page, say where, and return the exit code."""
        record = self.record
        if record.is_dir():  # What forget wrote.
            record /= "results.json"
            if not record.exists():
                raise FileNotFoundError(f"{self.record} holds no results.json.")
        page = record.with_suffix(".html") if self.out is None else self.out
        if page.absolute() == record.absolute():
            raise ValueError(f"--out {page} is the record: name another file.")
        document = read_json(record, _validate)
        if _is_audit(document):
            report.write_audit_page(page, document)
        else:
            report.write_report(page, document, references=False)
        sys.stdout.write(f"Report: {page}\n")
        return 0


def _validate(document: Any) -> None:
    check = functools.partial(report.validate, references=False)
    if _is_audit(document):
        check = report.validate_audit
    check(document)


def _is_audit(document: Any) -> bool:
    return isinstance(document, dict) and "tier" in document
