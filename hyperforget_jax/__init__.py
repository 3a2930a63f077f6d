"""Make a trained JAX classifier forget some of its training data, and prove it."""

from hyperforget_jax import (
    audits,
    checkpointing,
    checks,
    data,
    diffusion,
    evaluation,
    fisher,
    hypernet,
    inheritance,
    losses,
    metrics,
    models,
    pretrained,
    recipes,
    report,
    rivals,
    sharding,
    subspace,
    training,
    trees,
)
from hyperforget_jax.base import (
    Access,
    Classifier,
    Examples,
    ForgetRequest,
    Tap,
    Unlearner,
)
from hyperforget_jax.evaluation import evaluate
from hyperforget_jax.fisher import FIUnConfig
from hyperforget_jax.methods.ascent import ascent
from hyperforget_jax.methods.dihyfo import DiHyFoState, dihyfo
from hyperforget_jax.methods.finetune import finetune
from hyperforget_jax.methods.fiun import fiun
from hyperforget_jax.methods.identity import identity
from hyperforget_jax.methods.logit_mask import logit_mask
from hyperforget_jax.methods.neggrad_plus import neggrad_plus
from hyperforget_jax.methods.pgu import PGUState, pgu
from hyperforget_jax.methods.pgu_config import PGUConfig
from hyperforget_jax.methods.retrain import retrain
from hyperforget_jax.methods.ssd import ssd
from hyperforget_jax.models import from_functions, from_linen, from_nnx
from hyperforget_jax.requests import (
    forget_classes,
    forget_examples,
    forget_labels,
    forget_random,
    forget_rows,
    forget_where,
)
from hyperforget_jax.stacked_requests import (
    forget_each_class,
    sequence,
    unlearn_each,
    unlearn_sequence,
)
from hyperforget_jax.training import (
    NonFiniteLossError,
    Population,
    fit,
    fit_batches,
    fit_population,
    refresh_statistics,
)

__all__ = [
    "Access",
    "Classifier",
    "DiHyFoState",
    "Examples",
    "FIUnConfig",
    "ForgetRequest",
    "NonFiniteLossError",
    "PGUConfig",
    "PGUState",
    "Population",
    "Tap",
    "Unlearner",
    "ascent",
    "audits",
    "checkpointing",
    "checks",
    "data",
    "diffusion",
    "dihyfo",
    "evaluate",
    "evaluation",
    "finetune",
    "fisher",
    "fit",
    "fit_batches",
    "fit_population",
    "fiun",
    "forget_classes",
    "forget_each_class",
    "forget_examples",
    "forget_labels",
    "forget_random",
    "forget_rows",
    "forget_where",
    "from_functions",
    "from_linen",
    "from_nnx",
    "hypernet",
    "identity",
    "inheritance",
    "logit_mask",
    "losses",
    "metrics",
    "models",
    "neggrad_plus",
    "pgu",
    "pretrained",
    "recipes",
    "refresh_statistics",
    "report",
    "retrain",
    "rivals",
    "sequence",
    "sharding",
    "ssd",
    "subspace",
    "training",
    "trees",
    "unlearn_each",
    "unlearn_sequence",
]

__version__ = "0.2.0"
