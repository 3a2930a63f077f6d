"""Hypernetworks that sample the parameters of classifiers: zoos, tokens, training."""

from hyperforget_jax.hypernet.checkpoints import (
    load_hypernetwork,
    load_zoo,
    save_hypernetwork,
    save_zoo,
    stored_zoo,
)
from hyperforget_jax.hypernet.chunk_tokens import chunk_tokens
from hyperforget_jax.hypernet.class_scores import (
    class_scores,
    population_scores,
    score_all,
)
from hyperforget_jax.hypernet.config import HypernetConfig, TrainConfig
from hyperforget_jax.hypernet.hypernetwork import HypernetParams, Hypernetwork, build
from hyperforget_jax.hypernet.matching import canonicalise, match, permute_all
from hyperforget_jax.hypernet.prompts import Profiles, features, profile
from hyperforget_jax.hypernet.sampling import SETS, Sampler, forget_set, sample_params
from hyperforget_jax.hypernet.teachers import Distillation, retrained_log_probs
from hyperforget_jax.hypernet.train import fit_hypernetwork
from hyperforget_jax.hypernet.unit_tokens import Tokenizer, tokenizer, unit_tokens
from hyperforget_jax.hypernet.zoo import Zoo, edit_zoo, generate_zoo
from hyperforget_jax.training.config import FitConfig

__all__ = [
    "SETS",
    "Distillation",
    "FitConfig",
    "HypernetConfig",
    "HypernetParams",
    "Hypernetwork",
    "Profiles",
    "Sampler",
    "Tokenizer",
    "TrainConfig",
    "Zoo",
    "build",
    "canonicalise",
    "chunk_tokens",
    "class_scores",
    "edit_zoo",
    "features",
    "fit_hypernetwork",
    "forget_set",
    "generate_zoo",
    "load_hypernetwork",
    "load_zoo",
    "match",
    "permute_all",
    "population_scores",
    "profile",
    "retrained_log_probs",
    "sample_params",
    "save_hypernetwork",
    "save_zoo",
    "score_all",
    "stored_zoo",
    "tokenizer",
    "unit_tokens",
]
