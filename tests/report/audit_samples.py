"""Rows and documents of audits that never were: confidences by chance."""

import numpy as np
from scipy import stats

from hyperforget_jax.audits import Audited, Judgement
from hyperforget_jax.base import Access
from hyperforget_jax.report import audit_document, audit_row

SIDE, EXAMPLES = 128, 24
NAMES = ("accuracy", "mean confidence", "u-lira", "ruli", "klom", "reverse klom")
LEAST = 1 / 200  # The least p of 199 exchanges.


def judgement(share=0.0, accused=(), *, original=True, side=SIDE, **changed):
    """Audits whose value lies at a share of the way from floor to original.

    Audits called in ``changed`` have those fields instead.
    """
    audits = [
        Audited(
            name,
            0.5 + 0.4 * share,
            floor=0.5,
            original=0.9 if original else None,
            p=LEAST if name in accused else 0.6,
        )
        for name in NAMES
    ]
    audits.append(Audited("1 - forgetting score", None, note="needs 32 models"))
    audits.append(Audited("epsilon, lower bound", 0.0, note="3.53 at the most"))
    audits = [
        Audited(**{**vars(each), **changed.get(each.audit, {})}) for each in audits
    ]
    models = {"original": side * original, "retrained": 2 * side, "unlearned": side}
    return Judgement(models, side, EXAMPLES, tuple(audits), 0.05)


def row(method="mine", found=None, *, shift=0.0, curves=True, **changed):
    """A row of a judgement, with curves and histograms of normals apart by a shift."""
    fpr = np.geomspace(1 / (SIDE * EXAMPLES), 1, 30)
    tpr = stats.norm.sf(stats.norm.isf(fpr) - shift)
    edges = np.linspace(-4, 8, 25)
    counts = {
        kind: np.rint(SIDE * np.diff(stats.norm.cdf(edges - centre))).astype(int)
        for kind, centre in (("original", 3), ("retrained", 0), ("unlearned", shift))
    }
    options = {
        "scenario": "random",
        "request": "2 % of the rows",
        "dataset": "digits",
        "model": "mlp",
        "access": Access(unlearn={"retain"}),
        "seconds": {"unlearn": 0.25},
        "metrics": spread(retain_accuracy_test=0.97, forget_accuracy_train=0.96),
        "reference_metrics": {
            "original": spread(retain_accuracy_test=0.98, forget_accuracy_train=1.0),
            "retrained": spread(retain_accuracy_test=0.97, forget_accuracy_train=0.96),
        },
        "roc": [{"attack": "lira", "fpr": fpr, "tpr": tpr}] if curves else [],
        "histograms": [{"example": 7, "edges": edges, **counts}] if curves else [],
    }
    return audit_row(found or judgement(), method=method, **options | changed)


def spread(std=0.0, **means):
    """Metrics of means and a standard deviation, by name."""
    return {
        name: {"mean": mean, "std": std, "min": mean, "max": mean}
        for name, mean in means.items()
    }


def document(rows, **overrides):
    """A record of rows, the same wherever and whenever it is made."""
    made = audit_document(
        rows, preset="digits", tier="full", config={"members": SIDE}, seconds=90.0
    )
    fixed = {
        "command": "python experiments/audit.py --preset digits --tier full",
        "commit": "c0ffee",
        "dirty": False,
        "date": "2026-11-29T10:00:00+00:00",
    }
    return made | fixed | overrides
