"""Write the tables of the README, of docs/, notebooks/ and the pages of results.

python experiments/readme.py            # rewrites them
python experiments/readme.py --check    # fails if one is out of date
"""

import dataclasses
import functools
import re
import sys
from pathlib import Path

import tyro
from tables import (
    audit_torch,
    audits,
    benchmarks,
    classes,
    controls,
    endurance,
    hypernetworks,
    leaderboard,
    methods,
    networks,
    notebooks,
    off_tuning,
    pgu,
    residual,
    systems,
)

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/*.md", "notebooks/*.md", "experiments/results/*.md")


@dataclasses.dataclass(frozen=True)
class Readme:
    """Write the tables of the README, of docs/ and of the pages of results."""

    check: bool = False
    """Change nothing, and fail if a page is out of date."""


_DENSE = ("digits", "mnist", "mnist-free", "mnist_wide")

BLOCKS = {
    "methods": methods.access,
    "rivals": methods.rivals,
    "notebooks": notebooks.overview,
    "audits": audits.results,
    "audits-digits": audits.overview,
    "systems-mnist": systems.overview,
    "classes-digits": lambda: classes.methods("digits"),
    "leaderboard": leaderboard.results,
    "controls-digits": lambda: controls.variants("digits"),
    "audit-benchmark": benchmarks.audits,
    "convolution-benchmark": benchmarks.convolutions,
    "audit-torch": audit_torch.judgement,
    "benchmark": benchmarks.populations,
    "endurance": endurance.kills,
    "off-tuning": off_tuning.losses,
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
    "residual-class": lambda: residual.requests("cifar10_resnet8"),
    "residual-rows": lambda: residual.rows("cifar10_resnet8"),
    "residual-descendants": lambda: residual.descendants("cifar10_resnet8"),
    "dihyfo-ablations-digits": lambda: hypernetworks.ablations("digits"),
    "dihyfo-protect-mnist": lambda: hypernetworks.classes("mnist-protect"),
    "dihyfo-protect-samples-mnist": lambda: hypernetworks.samples("mnist-protect"),
    "dihyfo-trials-digits": lambda: hypernetworks.trials("digits"),
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
    """Replace what stands between the markers of every block, each on one page."""
    pages = [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    texts = {page: page.read_text() for page in pages}
    written = dict(texts)
    for name, make in BLOCKS.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        found = [page for page in pages if begin in texts[page]]
        if len(found) != 1:
            sys.exit(f"The block {name} must be on one page, is on {len(found)}.")
        (page,) = found
        before, rest = written[page].split(begin)
        after = rest.split(end)[1]
        written[page] = before + begin + make() + end + after
    for page in pages:
        marked = set(re.findall("<!-- end of (.*) -->", texts[page]))
        if unknown := sorted(marked - set(BLOCKS)):
            sys.exit(f"{page} has blocks that nothing makes: {unknown}.")
        if config.check and written[page] != texts[page]:
            sys.exit(f"{page} is out of date: run python experiments/readme.py")
        if not config.check:
            page.write_text(written[page])


if __name__ == "__main__":
    main(tyro.cli(Readme))
