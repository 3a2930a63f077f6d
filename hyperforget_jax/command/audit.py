"""``hyperforget audit``: a claim of forgetting, judged from logits in a folder."""

import dataclasses
import json
import pathlib
import sys
import time
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from hyperforget_jax import audits, report
from hyperforget_jax.report.audit_page import audit_notes

__all__ = ["Audit"]


@dataclasses.dataclass(frozen=True)
class Audit:
    """Test whether logits distinguish unlearned models from retrained ones.

    The exit code is 0 if no audit tells them apart, 1 if one does, and 2 if the files
    are not valid or hold too few models to say.
    """

    folder: tyro.conf.Positional[pathlib.Path]
    """Folder with logits.npy [models, examples, classes] on the forgotten examples,
    labels.npy [examples], and audit.json, what each model is:
    {"models": ["original", "retrained", "unlearned", ...]}. The arrays may also lie in
    one audit.npz or audit.safetensors, as logits and labels."""
    seed: int = 0
    """Random seed of the split of retrained models and of the permutation tests."""
    level: float = 0.05
    """Significance level: the chance of a false alarm, over all audits together."""
    json: bool = False
    """Print the result as JSON instead of a table."""
    report: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Also write the result as an HTML page."""

    def run(self) -> int:
        """Judge, print, and return the exit code."""
        started = time.perf_counter()
        claim = audits.load_folder(self.folder)
        found = audits.judge(*claim, seed=self.seed, level=self.level)
        if self.report is not None:
            _write(self, self.report, claim, found, time.perf_counter() - started)
        if self.json:
            record = dataclasses.asdict(found)
            record |= {"accused_by": found.accused_by, "verdict": found.verdict}
            sys.stdout.write(json.dumps(record, indent=2) + "\n")
        else:
            _print(found)
        if all(each.p is None for each in found.audits):
            return 2
        return 1 if found.accused_by else 0


def _write(
    options: Audit,
    page: pathlib.Path,
    claim: audits.Claim,
    found: audits.Judgement,
    seconds: float,
) -> None:
    row = report.audit_row(
        found,
        method=options.folder.absolute().name,
        scenario="claim",
        request="the examples in the folder",
        dataset="logits",
        model=f"{claim.logits.shape[2]} classes",
        histograms=audits.histograms(claim),
    )
    tier = "smoke" if found.a_side < 32 else "standard"
    settings = {"seed": options.seed, "level": options.level}
    document = report.audit_document(
        [row], preset="", tier=tier, config=settings, seconds=seconds
    )
    report.write_audit_page(page, document)


def _print(found: audits.Judgement) -> None:
    table = Table("audit", "value", "floor", "original", "p")
    for each in found.audits:
        numbers = (each.value, each.floor, each.original, each.p)
        cells = ["–" if number is None else f"{number:.3f}" for number in numbers]
        if each.interval is not None:
            cells[0] += f" ± {(each.interval[1] - each.interval[0]) / 2:.3f}"
        table.add_row(each.audit, *cells)
    console = Console()
    console.print(table)
    for line in audit_notes((each.audit, each.note) for each in found.audits):
        console.print(f"{line}.", highlight=False)
    counts = ", ".join(f"{number} {kind}" for kind, number in found.models.items())
    console.print(
        f"{counts} models, {found.a_side} a side; {found.examples} examples. Floor: "
        "retrained models posed as unlearned; original: the original ones; ±: 1.96 "
        "standard errors over models. p: share of exchanges of unlearned and retrained "
        "models that look as bad."
    )
    console.print(f"Verdict: {found.verdict}.")
