"""CT: transpose the convolutions, and train on without the forgotten."""

import jax
import jax.numpy as jnp
import optax

from hyperforget_jax import trees
from hyperforget_jax.base import Classifier, Unlearner
from hyperforget_jax.rivals.restart import restarting
from hyperforget_jax.training.config import FitConfig

__all__ = ["ct"]


def ct(
    classifier: Classifier,
    *,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 300,
    batch_size: int = 128,
) -> Unlearner:
    """Swap height and width of every convolution's kernel, then fine-tune.

    Fifth of the unlearning challenge of NeurIPS 2023. Kernels whose height is not their
    width stay, since no transposed one fits the layer. A network without convolutions,
    or with 1 x 1 ones alone, is only fine-tuned: there it is ``hf.finetune``.

    It reads the retained data when a request comes, and never what is forgotten.
    Evaluation mode; published in training mode, where normalisation statistics move.

    Args:
        classifier: the model.
        optimizer: any optax optimiser; by default ``optax.adam(1e-3)``. Published: SGD
            with momentum 0.9, weight decay 5e-4 and a cosine from 1e-3, for 3 epochs of
            minibatches of 64.
        steps: minibatches. After a hundred a small network with BatchNorm was still
            ten points of accuracy short of where it had been.
        batch_size: rows a minibatch.

    References:
        Cadet et al., Deep Unlearn: benchmarking machine unlearning for image
        classification, arXiv 2410.01276, 2024, which runs the winners anew.
        Triantafillou et al., Are we making progress in unlearning? Findings from the
        first NeurIPS unlearning competition, arXiv 2406.09073, 2024.
    """
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer
    config = FitConfig(optimizer, steps, batch_size)

    def spoil(key, variables, request):
        del key, request  # Nothing is drawn, and nothing looked at.

        def transpose(keys, leaf):
            is_kernel = trees.join(keys).rpartition("/")[2] == "kernel"
            # [height, width, inputs, outputs].
            if is_kernel and leaf.ndim == 4 and leaf.shape[0] == leaf.shape[1]:
                return jnp.swapaxes(leaf, 0, 1)
            return leaf

        return jax.tree.map_with_path(transpose, variables["params"]), None

    return restarting(classifier, spoil, {"retain"}, config)
