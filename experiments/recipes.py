"""How the classifiers of the studies are trained, and which networks they are."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import optax
import optax.contrib

import hyperforget_jax as hf
from hyperforget_jax.models.networks import Conv


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the classifiers of a preset are trained, the retrained ones too.

    Attributes:
        dataset: its name.
        hidden: widths of a perceptron's hidden layers.
        learning_rate: of Adam with a cosine schedule, or of Muon.
        weight_decay: decoupled.
        steps: minibatches.
        batch_size: rows in each.
        network: another network than a perceptron, by its name in :data:`NETWORKS`.
        rows: number of training examples, drawn at random; None for all.
        held_out: number of probe and of test examples, drawn at random; None for all.
        judged: number of training rows, the first ones, that requests for classes are
            evaluated on, the relearning included; None for all.
        crop_and_flip: whether training moves and mirrors images.
        chunk_size: models trained at once; None for as many as the memory holds.
        muon: whether kernels are trained by Muon, with Adam for the rest.
    """

    dataset: str
    hidden: tuple[int, ...]
    learning_rate: float
    weight_decay: float
    steps: int
    batch_size: int
    network: str | None = None
    rows: int | None = None
    held_out: int | None = None
    judged: int | None = None
    crop_and_flip: bool | None = None
    chunk_size: int | None = None
    muon: bool | None = None

    @property
    def augment(self) -> Callable[..., jax.Array] | None:
        return hf.data.crop_and_flip() if self.crop_and_flip else None

    @property
    def classifier(self) -> hf.Classifier:
        if self.network is not None:
            return NETWORKS[self.network]()
        return hf.from_linen(hf.models.MLP(self.hidden))

    @property
    def model(self) -> str:
        return self.network or "mlp-" + "-".join(map(str, self.hidden))

    def record(self) -> dict[str, Any]:
        """Collect what decides results, in the words that records have always had."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if value is not None}

    def load(self) -> hf.data.Splits:
        """Load the data, of which as many rows as the recipe wants."""
        splits = hf.data.load(self.dataset)
        wanted = {"train": self.rows, "probe": self.held_out, "test": self.held_out}
        for name, rows in wanted.items():
            if rows is not None:
                split = getattr(splits, name)
                order = jax.random.permutation(jax.random.key(13), split.y.shape[0])
                splits = splits._replace(**{name: split.take(order[:rows])})
        return splits

    def optimizer(self, steps: int) -> optax.GradientTransformation:
        """Make the optimizer, with weight decay and a schedule that ends with training.

        Without decay the loss has no minimum: a model that is trained for longer is
        another model, and no distance to a retrained one means anything.
        """
        if self.muon:
            return self._muon(steps)
        schedule = optax.cosine_decay_schedule(self.learning_rate, steps)
        return optax.adamw(schedule, weight_decay=self.weight_decay)

    def _muon(self, steps: int) -> optax.GradientTransformation:
        """Make Muon with a learning rate that rises for a fifth of the steps and falls.

        A kernel, the head's too, is a matrix of all its inputs by its outputs (Jordan
        et al., Muon, 2024), and decays. What is no kernel has Adam, at three tenths of
        the learning rate, without decay.
        """
        top, rising = self.learning_rate, steps // 5
        schedule = optax.join_schedules(
            [
                optax.linear_schedule(0.1 * top, top, rising),
                optax.linear_schedule(top, 0.0, steps - rising),
            ],
            [rising],
        )

        def of_kernel(leaf):
            if leaf.ndim < 2:
                return None
            *inputs, output = range(leaf.ndim)
            return optax.contrib.MuonDimensionNumbers(tuple(inputs), (output,))

        return optax.contrib.muon(
            schedule,
            weight_decay=self.weight_decay,
            adam_learning_rate=lambda step: 0.3 * schedule(step),
            muon_weight_dimension_numbers=lambda tree: jax.tree.map(of_kernel, tree),
        )

    def train(
        self,
        key: jax.Array,
        data: hf.Examples,
        members: int,
        directory: Path | None = None,
        weights: jax.Array | None = None,
    ) -> hf.Population:
        """Train originals, or models of weighted rows; as ``hf.fit_population``."""
        return hf.fit_population(
            key,
            self.classifier,
            data,
            self.optimizer(self.steps),
            self.steps,
            members=members,
            weights=weights,
            batch_size=self.batch_size,
            augment=self.augment,
            chunk_size=self.chunk_size,
            directory=directory,
        )

    def retrain(self, classifier, longer: int = 1) -> hf.Unlearner:
        """Retrain as the originals were trained to the letter, or for longer."""
        steps = longer * self.steps
        return hf.retrain(
            classifier,
            self.optimizer(steps),
            steps,
            batch_size=self.batch_size,
            augment=self.augment,
        )


def accuracies(
    classifier: hf.Classifier, variables, examples: hf.Examples, request
) -> tuple[jax.Array, jax.Array]:
    """Measure a model on the examples that a request covers, and on the others."""
    logits = hf.models.logits(classifier, variables, examples.x)
    forget, retain = (
        hf.metrics.accuracy(logits, examples.y, half.weight)
        for half in request.split(examples)
    )
    return forget, retain


class _SmallCNN(nn.Module):
    """Two convolutions that each halve the image, and a wide linear layer."""

    hidden: int = 64

    @nn.compact
    def __call__(self, x):
        x = nn.relu(Conv(16, (3, 3), strides=2)(x))
        x = nn.relu(Conv(32, (3, 3), strides=2)(x))
        x = nn.relu(nn.Dense(self.hidden)(x.reshape(x.shape[0], -1)))
        return nn.Dense(10)(x)


class _NormalisedCNN(nn.Module):
    """Means of 2 x 2 pixels, two convolutions of stride two with BatchNorm, a head."""

    @nn.compact
    def __call__(self, x, train):
        rows, height, width, channels = x.shape
        # By their shape: a pooling window is slow inside a scan.
        x = x.reshape(rows, height // 2, 2, width // 2, 2, channels).mean((2, 4))
        for channels in (8, 16):
            x = Conv(channels, (3, 3), strides=2)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        return nn.Dense(10)(x.reshape(x.shape[0], -1))


def _normalised(module: nn.Module) -> hf.Classifier:
    return hf.from_linen(module, train={"train": True}, eval={"train": False})


NETWORKS: dict[str, Callable[[], hf.Classifier]] = {
    "mlp-64-pooled": lambda: hf.from_linen(hf.models.PooledMLP((64,))),
    "cnn-16-32-64": lambda: hf.from_linen(_SmallCNN()),
    "cnn-8-16-batchnorm": lambda: _normalised(_NormalisedCNN()),
    "small-vgg": lambda: _normalised(hf.models.SmallVGG()),
    "all-cnn": lambda: _normalised(hf.models.AllCNN()),
    "gpt-cnn": lambda: hf.from_linen(hf.models.GptCNN()),
    "resnet-8": lambda: _normalised(hf.models.ResNet8()),
    "resnet-18": lambda: _normalised(hf.models.ResNet18()),
}

RECIPES = {
    "digits": Recipe("digits", (64,), 5e-3, 1.0, 800, 64),
    # Small enough for a zoo and a hypernetwork to be made in minutes.
    "mnist": Recipe("mnist", (32,), 2e-3, 1.0, 3_000, 128),
    # Sixteen epochs of all images, about 25 minutes of a core; models one by one, which
    # is faster than side by side. Muon was chosen on the probe, by trials of five
    # epochs (78.1 % against 74.6 % by Nesterov momentum).
    "cifar10_resnet8": Recipe(
        "cifar10",
        (),
        2e-2,
        5e-3,
        5_625,
        128,
        "resnet-8",
        judged=5_000,
        crop_and_flip=True,
        chunk_size=1,
        muon=True,
    ),
}
