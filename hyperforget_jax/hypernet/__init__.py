"""Hypernetworks that sample the parameters of classifiers: zoos, tokens, training."""

from hyperforget_jax.hypernet.denoiser import Denoiser
from hyperforget_jax.hypernet.fitting import fit_hypernetwork
from hyperforget_jax.hypernet.labels import (
    class_scores,
    population_scores,
    score_all,
)
from hyperforget_jax.hypernet.matching import canonicalise, match, permute_all
from hyperforget_jax.hypernet.network import (
    Hypernetwork,
    Learnt,
    build,
    estimate,
    load_hypernetwork,
    save_hypernetwork,
    untrained,
)
from hyperforget_jax.hypernet.objective import Course
from hyperforget_jax.hypernet.prompts import Profiles, features, profile
from hyperforget_jax.hypernet.recipe import Recipe
from hyperforget_jax.hypernet.sampling import (
    SETS,
    Sampler,
    forget_set,
    sample_params,
)
from hyperforget_jax.hypernet.scales import (
    power_of_two_scales,
    scale_down,
    scale_up,
)
from hyperforget_jax.hypernet.storage import load_zoo, save_zoo, stored_zoo
from hyperforget_jax.hypernet.teachers import (
    Training,
    distillation,
    oracle_answers,
    retrained_answers,
)
from hyperforget_jax.hypernet.tokens import (
    Group,
    Tokenizer,
    chunk_tokens,
    tokenizer,
    unit_tokens,
)
from hyperforget_jax.hypernet.zoo import Zoo, anchored_zoo, free_zoo

__all__ = [
    "SETS",
    "Course",
    "Denoiser",
    "Group",
    "Hypernetwork",
    "Learnt",
    "Profiles",
    "Recipe",
    "Sampler",
    "Tokenizer",
    "Training",
    "Zoo",
    "anchored_zoo",
    "build",
    "canonicalise",
    "chunk_tokens",
    "class_scores",
    "distillation",
    "estimate",
    "features",
    "fit_hypernetwork",
    "forget_set",
    "free_zoo",
    "load_hypernetwork",
    "load_zoo",
    "match",
    "oracle_answers",
    "permute_all",
    "population_scores",
    "retrained_answers",
    "power_of_two_scales",
    "profile",
    "sample_params",
    "save_hypernetwork",
    "save_zoo",
    "scale_down",
    "scale_up",
    "score_all",
    "stored_zoo",
    "tokenizer",
    "unit_tokens",
    "untrained",
]
