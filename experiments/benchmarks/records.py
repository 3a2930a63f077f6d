"""What benchmarks write."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import hyperforget_jax as hf

sys.path.append(str(Path(__file__).resolve().parents[1]))

import runs

NOT_TIMED = {"init": 0.0, "unlearn": 0.0, "compile": 0.0}


def row(method: str, values: Mapping[str, Any], **about: Any) -> dict[str, Any]:
    """Make a row of metrics by turn, where a single number stands for all turns.

    Args:
        method: what was timed.
        values: the metrics, each a number, or as many as there were turns.
        about: as for ``hf.report.results_row``.
    """
    repeats = max(np.size(of) for of in values.values())
    each = {name: np.broadcast_to(of, repeats) for name, of in values.items()}
    turns = [
        {name: float(of[turn]) for name, of in each.items()} for turn in range(repeats)
    ]
    defaults: dict[str, Any] = {"scenario": "speed", "request": "none"}
    return hf.report.results_row(method, turns, over="repeat", **defaults | about)


def write(
    config: Any,
    rows: Sequence[Mapping[str, Any]],
    begin: float,
    preset: str = "benchmark",
    **more: Any,
) -> None:
    """Write ``results.json`` into the folder that ``config.out`` names.

    Args:
        config: the benchmark's dataclass.
        rows: of :func:`row`.
        begin: ``time.perf_counter()`` at the start.
        preset: its name.
        more: what else to record of the configuration.
    """
    record = dataclasses.asdict(config) | more
    runs.write(config, rows, record, begin, preset=preset, references=False)
