"""The command ``hyperforget``, which the wheel installs."""

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: of the command line; None for the process's own.

    Returns:
        The exit code: 0, or 1 for models that can be told from retrained ones, or 2 for
        what cannot be read, or judged by so few models.
    """
    parser = argparse.ArgumentParser("hyperforget", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    audit = commands.add_parser(
        "audit",
        help="judge a claim of forgetting from logits in a folder",
        epilog="Exits with 0 if nothing was found, 1 if models can be told from "
        "retrained ones, 2 if something cannot be read or judged by so few models.",
    )
    audit.add_argument(
        "folder",
        help='audit.json, {"models": ["original", "retrained", "unlearned", ...]}, and '
        "logits.npy [models, examples, classes] and labels.npy [examples]",
    )
    audit.add_argument("--seed", type=int, default=0, help="of splits and exchanges")
    audit.add_argument("--level", type=float, default=0.05, help="of false accusations")
    audit.add_argument("--json", action="store_true", help="print one JSON object")
    audit.add_argument("--report", metavar="FILE", help="write a page there")
    return _audit(parser.parse_args(arguments))


def _audit(options: argparse.Namespace) -> int:
    # Imported when asked: scipy and scikit-learn take their time.
    from hyperforget_jax.audits import judge, load_folder

    try:
        claim = load_folder(options.folder)
        found = judge(*claim, seed=options.seed, level=options.level)
        if options.report:
            _write(options, claim, found)
    except (OSError, TypeError, ValueError) as error:
        sys.stderr.write(f"hyperforget audit: {error}\n")
        return 2
    if options.json:
        record = dataclasses.asdict(found)
        record |= {"accused_by": found.accused_by, "verdict": found.verdict}
        sys.stdout.write(json.dumps(record, indent=2) + "\n")
    else:
        _print(found)
    if all(each.p is None for each in found.audits):
        return 2
    return 1 if found.accused_by else 0


def _write(options: argparse.Namespace, claim, found) -> None:
    from hyperforget_jax import report
    from hyperforget_jax.audits import histograms

    row = report.audit_row(
        found,
        method=pathlib.Path(options.folder).absolute().name,
        scenario="claim",
        request="the examples in the folder",
        dataset="logits",
        model=f"{claim.logits.shape[2]} classes",
        histograms=histograms(claim),
    )
    tier = "smoke" if found.a_side < 32 else "standard"
    settings = {"seed": options.seed, "level": options.level}
    document = report.audit_document(
        [row], preset="claim", tier=tier, config=settings, seconds=0.0
    )
    report.write_audit_page(options.report, document)


def _print(found) -> None:
    table = Table("audit", "value", "floor", "original", "p", "note")
    for each in found.audits:
        numbers = (each.value, each.floor, each.original, each.p)
        cells = ["" if number is None else f"{number:.3f}" for number in numbers]
        if each.interval is not None:
            cells[0] += f" ± {(each.interval[1] - each.interval[0]) / 2:.3f}"
        table.add_row(each.audit, *cells, each.note)
    console = Console()
    console.print(table)
    counts = ", ".join(f"{number} {kind}" for kind, number in found.models.items())
    console.print(
        f"{counts} models, {found.a_side} a side; {found.examples} examples. Floor: "
        "retrained models posed as unlearned; original: the original ones; ±: 1.96 "
        "standard errors over models. p: share of exchanges of unlearned and retrained "
        "models that look as bad."
    )
    console.print(f"Verdict: {found.verdict}.")
