"""Writes the README's tables: from access records and committed results, never by hand.

python experiments/readme.py            # rewrites the README
python experiments/readme.py --check    # fails if it is out of date
"""

import dataclasses
import functools
import sys
from pathlib import Path

import tyro
from tables import benchmarks, classes, hypernetworks, methods, networks, pgu

ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Readme:
    """Write the README's tables."""

    check: bool = False
    """Change nothing, and fail if the README is out of date."""
    path: Path = ROOT / "README.md"
    """The file."""


_DENSE = ("digits", "mnist", "mnist-free", "mnist_wide")

BLOCKS = {
    "methods": methods.access,
    "classes-digits": lambda: classes.methods("digits"),
    "benchmark": benchmarks.populations,
    "networks-mnist": lambda: networks.settings("mnist"),
    "networks-cifar10": lambda: networks.settings("cifar10_small"),
    "mask-cifar10": lambda: networks.against_mask("cifar10_small"),
    "mask-mnist": lambda: networks.against_mask("mnist"),
    "requests-mnist": lambda: networks.other_requests("mnist"),
    "networks-benchmark": benchmarks.networks,
    "pgu-benchmark": benchmarks.pgu,
    "dihyfo-benchmark": benchmarks.hypernetworks,
    "pgu-classes": lambda: pgu.classes("mnist"),
    "pgu-classes-cnn": lambda: pgu.classes("mnist_cnn"),
    "pgu-rows": lambda: pgu.rows("mnist"),
    "pgu-rows-cifar10": lambda: pgu.rows("cifar10_small"),
    "pgu-poison-cifar10": lambda: pgu.poison("cifar10_small"),
    "pgu-poison": lambda: pgu.poison("mnist"),
    "pgu-ablations": lambda: pgu.ablations("mnist"),
    "dihyfo-ablations-digits": lambda: hypernetworks.ablations("digits"),
    "dihyfo-strangers-digits": lambda: hypernetworks.strangers("digits-strangers"),
    **{
        f"dihyfo-{scenario}-{preset}": functools.partial(make, preset)
        for scenario, make, presets in (
            ("classes", hypernetworks.classes, (*_DENSE, "cifar10_cnn")),
            ("samples", hypernetworks.samples, (*_DENSE, "cifar10_cnn")),
            ("prompts", hypernetworks.prompts, (*_DENSE, "cifar10_cnn")),
            ("pairs", hypernetworks.pairs, _DENSE),
        )
        for preset in presets
    },
}


def main(config: Readme) -> None:
    """Replaces what stands between the markers of every block."""
    text = written = config.path.read_text()
    for name, make in BLOCKS.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, rest = written.split(begin)
        after = rest.split(end)[1]
        written = before + begin + make() + end + after
    if config.check and written != text:
        sys.exit(f"{config.path} is out of date: run python experiments/readme.py")
    if not config.check:
        config.path.write_text(written)


if __name__ == "__main__":
    main(tyro.cli(Readme))
