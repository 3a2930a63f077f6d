"""A ResNet-18 on CIFAR-10, trained for a few hundred steps, forgets a class."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import optax
import recipes
from benchmarks import timing
from rich.console import Console

import hyperforget_jax as hf

MODES = dict(train={"train": True}, eval={"train": False})
CLASS = 3


class Sizes(NamedTuple):
    """How large it all is.

    Attributes:
        widths: of the network's stages.
        rows: training images, drawn at random; None for all.
        held_out: test images, likewise.
        steps: minibatches; four epochs of all images.
        batch_size: rows a minibatch.
        rounds: of PGU, at most.
    """

    widths: Sequence[int] = (64, 128, 256, 512)
    rows: int | None = None
    held_out: int | None = None
    steps: int = 400
    batch_size: int = 512
    rounds: int = 10


def measure(sizes: Sizes, console: Console) -> list[dict[str, Any]]:
    """Train, retrain, and let the model forget by PGU and by FIUn.

    Training augments images; what PGU and FIUn sum is of the images as they are.
    Seconds are of the first run of what has been compiled; of requests less than a
    second long, of the second one.
    """
    splits = recipes.Recipe(
        "cifar10", (), 0.0, 0.0, 0, 0, rows=sizes.rows, held_out=sizes.held_out
    ).load()
    classifier = hf.from_linen(hf.models.ResNet18(sizes.widths), **MODES)
    request = hf.forget_classes(splits.train, (CLASS,))
    keys = jax.random.split(jax.random.key(0), 4)
    rate = optax.cosine_onecycle_schedule(sizes.steps, 0.2)
    optimizer = optax.chain(
        optax.add_decayed_weights(5e-4), optax.sgd(rate, 0.9, nesterov=True)
    )

    def fit(key, data):
        return hf.fit(
            key,
            classifier,
            data,
            optimizer,
            sizes.steps,
            batch_size=sizes.batch_size,
            augment=hf.data.crop_and_flip(),
        )

    def row(name, variables, times, access, values):
        found = accuracies(classifier, variables, splits, request) | values
        console.print(name, {k: round(v, 4) for k, v in found.items()})
        return hf.report.results_row(
            name,
            [found],
            dataset="cifar10",
            model="resnet-18",
            scenario="class",
            request=f"class {CLASS}",
            access=access,
            seconds=dict(zip(("init", "unlearn", "compile"), times, strict=True)),
            factors={"sizes": sizes._asdict()},
            num_train=splits.train.y.shape[0],
        )

    train, compile_seconds = timing.compiled(fit, keys[0], splits.train)
    seconds, variables = timing.timed(train, keys[0], splits.train)
    retraining, retrained = timing.timed(train, keys[1], request.retain)
    nothing, whole = hf.Access(), hf.Access(unlearn={"retain"})
    rows = [
        row(
            "original",
            variables,
            (seconds, 0, compile_seconds),
            nothing,
            {"training_seconds": seconds},
        ),
        row("retrain", retrained, (0, retraining, compile_seconds), whole, {}),
    ]
    unlearners = {
        "pgu": hf.pgu(classifier, hf.PGUConfig(rounds=sizes.rounds)),
        # Gradients of so many examples are held at once.
        "fiun": hf.fiun(classifier, hf.FIUnConfig(batch_size=64)),
    }
    for name, unlearner in unlearners.items():
        of_init = keys[2], variables, splits.train
        prepare, init_compile = timing.compiled(unlearner.init, *of_init)
        preparing, state = timing.timed(prepare)
        answer, unlearn_compile = timing.compiled(
            unlearner.unlearn, keys[3], state, request
        )
        seconds, (after, _) = timing.timed(answer)
        if seconds < 1:
            seconds = timing.seconds_of(answer)
        rows.append(
            row(
                name,
                after.variables,
                (preparing, seconds, init_compile + unlearn_compile),
                unlearner.access,
                {"seconds_per_request": seconds}
                | {"ratio_to_retraining": retraining / seconds},
            )
        )
    return rows


def accuracies(classifier, variables, splits, request) -> dict[str, float]:
    """Measure accuracy on the class and on all others, of training and test images."""
    found = {}
    for part in ("train", "test"):
        data = getattr(splits, part)
        forget, retain = recipes.accuracies(classifier, variables, data, request)
        found[f"forget_accuracy_{part}"] = float(forget)
        found[f"retain_accuracy_{part}"] = float(retain)
    return found
