"""What each method reads and when."""

import jax.numpy as jnp
import optax

import hyperforget_jax as hf
from hyperforget_jax import hypernet
from tables.writing import table


def access() -> str:
    """What each method reads and when, and what remains, from its access record."""
    classifier = hf.from_linen(hf.models.MLP(()))
    unlearners = {
        "identity": hf.identity(classifier),
        "logit_mask": hf.logit_mask(classifier),
        "retrain": hf.retrain(classifier, optax.identity(), 1),
        "finetune": hf.finetune(classifier),
        "ascent": hf.ascent(classifier),
        "neggrad_plus": hf.neggrad_plus(classifier),
        "ssd": hf.ssd(classifier),
        "fiun": hf.fiun(classifier),
        "fiun(folded)": hf.fiun(classifier, "folded"),
        "pgu": hf.pgu(classifier),
        "dihyfo": _dihyfo(classifier),
    }

    def read(names) -> str:
        return ", ".join(sorted(names)) or "–"

    return table(
        ["method", "reads before", "reads at `init`", "reads at `unlearn`", "remains"],
        [
            [
                f"`hf.{name}`",
                read(unlearner.access.before),
                read(unlearner.access.init),
                read(unlearner.access.unlearn),
                unlearner.access.remains,
            ]
            for name, unlearner in unlearners.items()
        ],
    )


def _dihyfo(classifier: hf.Classifier) -> hf.Unlearner:
    """Any hypernetwork: what the method reads does not depend on it."""
    x = jnp.zeros((1, 4))
    network = hypernet.build(classifier, x, hypernet.Recipe(width=4, heads=1))
    return hf.dihyfo(classifier, network._replace(learnt=hypernet.untrained(network)))
