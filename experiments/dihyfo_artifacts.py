"""Artifacts of the study of hypernetworks: zoos and trained networks.

Zoos, predictions of retrained models and hypernetworks are checkpoints under the
study's folder, unfinished ones too, so that a run that was stopped goes on from there.
"""

import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import study as studies
from dihyfo_presets import Preset, Variant

import hyperforget_jax as hf
from hyperforget_jax import hypernet, trees


class Trained(NamedTuple):
    """A hypernetwork and its parameters."""

    network: hypernet.Hypernetwork
    params: hypernet.HypernetParams


class Taught(NamedTuple):
    """A model, and the log-probabilities of retrained models, ``[M, N, C]``."""

    variables: Any
    log_probs: jax.Array


@dataclasses.dataclass
class Artifacts:
    """Everything that is made before the first request.

    Attributes:
        preset: how it is made.
        out: the study's folder.
        splits: the data.
        classifier: the model.
        seconds: what each part took to make, by name, when it was made.
        zoos: those that are in memory.
    """

    preset: Preset
    out: Path
    splits: hf.data.Splits
    classifier: hf.Classifier
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    zoos: dict[str, hypernet.Zoo] = dataclasses.field(default_factory=dict)

    def log_probs(self) -> jax.Array:
        """Predict by retrained models on training rows, ``[M, N, C]``."""
        path = self.out / "log_probs"
        self._make(
            path,
            lambda: hypernet.retrained_log_probs(
                jax.random.key(1_001),
                self.classifier,
                self.splits.train,
                masks=self.preset.masks,
                config=self.preset.start(),
                members=self.preset.teachers,
                directory=self._unfinished / "log_probs",
            ),
            lambda made: hf.checkpointing.save(path, made, kind="log_probs"),
        )
        return hf.checkpointing.load(path, kind="log_probs")

    def edit_zoo(self, share: float = 1.0) -> hypernet.Zoo:
        """Make the edit zoo, or take the runs of a share of its starts."""
        zoo = self._zoo("zoo", lambda: self._edit_zoo(self.preset.starts, 1_000))
        if share == 1:
            return zoo
        assert zoo.start_loss is not None
        count = round(share * zoo.start_loss.shape[0])
        runs = zoo.start < count
        return hypernet.Zoo(
            trees.take(zoo.variables, runs),
            zoo.masks[runs],
            zoo.start[runs],
            zoo.loss[runs],
            zoo.accuracy[runs],
            trees.take(zoo.starts, slice(count)),
            zoo.start_loss[:count],
            zoo.steps,
        )

    def mixed_zoo(self) -> hypernet.Zoo:
        """Make an edit zoo of as many starts, some of them of other trainings."""

        def make():
            kinds = [kind for kind in self.preset.out_of_distribution if kind.mixed]
            each, own = self.preset.starts // (1 + len(kinds)), self.preset.start()
            parts = [self.starts(1_005, own, self.preset.starts - each * len(kinds))]
            for number, kind in enumerate(kinds):
                config = kind.config(own.batch_size)
                parts.append(self.starts(1_010 + number, config, each))
            starts = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
            return self._edit_zoo(starts, 1_007)

        return self._zoo("mixed-zoo", make)

    def starts(self, seed: int, config: hypernet.FitConfig, members: int) -> Any:
        """Fit models; return their variables, stacked."""
        population = hf.fit_population(
            jax.random.key(seed),
            self.classifier,
            self.splits.train,
            config.optimizer,
            config.steps,
            members=members,
            batch_size=config.batch_size,
            directory=self.out / f"starts-{seed}",
        )
        failed = np.flatnonzero(np.asarray(population.failed_at) >= 0)
        assert not failed.size, f"trainings {failed.tolist()} diverged"
        return population.variables

    def held_out(self, starts: Any) -> hypernet.Zoo:
        """Run from starts that no zoo has, single classes only."""
        masks, log_probs = self.preset.masks[:10], self.log_probs()[:10]
        return self._edit_zoo(starts, 1_002, masks, log_probs)

    def generate_zoo(self, match: bool = True) -> hypernet.Zoo:
        """Make the generate zoo, its hidden units in one order if ``match``."""

        def make():
            return hypernet.generate_zoo(
                jax.random.key(1_003),
                self.classifier,
                self.splits.train,
                self.splits.probe,
                masks=self.preset.masks,
                runs=self.preset.generate_runs,
                config=self.preset.start(),
            )

        zoo = self._zoo("free-zoo", make)
        tokenizer = self.network({"mode": "generate"}).tokenizer
        if not match or tokenizer.permute is None:
            return zoo
        if "matched" not in self.zoos:
            params = zoo.variables["params"]
            _, orders, _ = hypernet.canonicalise(tokenizer, last(zoo), rounds=8)
            params = hypernet.permute_all(tokenizer, params, orders)
            variables = {"params": jax.tree.map(np.asarray, params)}
            self.zoos["matched"] = zoo._replace(variables=variables)
        return self.zoos["matched"]

    def network(self, architecture: Any) -> hypernet.Hypernetwork:
        """Build a hypernetwork; ``architecture`` replaces fields of the preset's."""
        config = dataclasses.replace(self.preset.network, **architecture)
        return hypernet.build(self.classifier, self.splits.train.x, config)

    def trained(self, name: str, variant: Variant, seed: int = 0) -> Trained:
        """Train a hypernetwork from one of the training seeds, or load it."""
        name = f"{name.replace('/', '-')}-{seed}"
        path, network = self.out / "networks" / name, self.network(variant.architecture)

        def save(made):
            params, trace = made
            hypernet.save_hypernetwork(path, network, params)
            np.savetxt(path / "trace.txt", trace, fmt="%.6g")

        self._make(
            path,
            lambda: hypernet.fit_hypernetwork(
                jax.random.fold_in(jax.random.key(1_004), seed),
                network,
                self.classifier,
                self.zoo(network.edits, variant.zoo),
                self.splits.train,
                dataclasses.replace(self.preset.train, **variant.train),
                directory=self._unfinished / name,
            ),
            save,
        )
        return Trained(*hypernet.load_hypernetwork(path, self.classifier))

    def zoo(self, edits: bool, kind: str = "whole") -> hypernet.Zoo:
        """Return the zoo of a mode and a kind, as :class:`Variant` names them."""
        if kind == "mixed":
            return self.mixed_zoo()
        if edits:
            return self.edit_zoo(0.25 if kind == "quarter" else 1)
        return self.generate_zoo(match=kind != "unmatched")

    def teacher(self) -> studies.Method:
        """Return the rule of the edit zoo's runs as a method: one more of them."""
        log_probs, config = self.log_probs(), self.preset.forget()
        sets = np.zeros((len(self.preset.masks), 10), bool)
        for row, classes in enumerate(self.preset.masks):
            sets[row, list(classes)] = True
        objective = hypernet.Distillation(self.classifier, self.preset.temperature)

        def make(classifier):
            def init(key, variables, data):
                del key, data
                return Taught(variables, log_probs)

            def unlearn(key, state, request):
                # Only sets of the zoo are asked for.
                mask = jnp.argmax(jnp.all(sets == request.classes[None], axis=1))
                loss_fn, data = objective(mask, state.log_probs), request.data
                variables, info = config.run(key, loss_fn, state.variables, (data,))
                return state._replace(variables=variables), info

            access = hf.Access(
                before={"retain", "forget", "classes"},
                unlearn={"retain", "forget", "classes"},
                remains="the predictions of retrained models on every training row",
            )
            return hf.Unlearner(init, unlearn, access)

        return studies.Method(make, {})

    def _edit_zoo(self, starts, seed, masks=None, log_probs=None) -> hypernet.Zoo:
        return hypernet.edit_zoo(
            jax.random.key(seed),
            self.classifier,
            self.splits.train,
            self.splits.probe,
            masks=self.preset.masks if masks is None else masks,
            starts=starts,
            start=self.preset.start(),
            forget=self.preset.forget(),
            checkpoint_steps=self.preset.checkpoint_steps,
            temperature=self.preset.temperature,
            log_probs=self.log_probs() if log_probs is None else log_probs,
            directory=self._unfinished / f"zoo-{seed}" if masks is None else None,
        )

    @property
    def _unfinished(self) -> Path:
        """Return the folder of unfinished parts; it goes with the last of them."""
        return self.out / "unfinished"

    def _zoo(self, name: str, make: Callable[[], hypernet.Zoo]) -> hypernet.Zoo:
        path, model = self.out / name, self.classifier.description
        self._make(path, make, lambda made: hypernet.save_zoo(path, made, model=model))
        if name not in self.zoos:
            self.zoos[name] = hypernet.load_zoo(path)
        return self.zoos[name]

    def _make(self, path: Path, make: Callable[[], Any], save) -> None:
        """Make and save what is not there yet, and take the time."""
        if not path.exists():
            before = time.perf_counter()
            made = jax.block_until_ready(make())
            self.seconds[path.name] = time.perf_counter() - before
            save(made)
            shutil.rmtree(self._unfinished, ignore_errors=True)


def last(zoo: hypernet.Zoo) -> Any:
    """Return the params of the last checkpoints, ``[R, ...]``."""
    return jax.tree.map(lambda leaf: leaf[:, -1], zoo.variables["params"])


def flat(params: Any) -> np.ndarray:
    """Return stacked parameters as rows of a matrix, ``[P, D]``."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
    return np.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], 1)


def quickstart(
    study: studies.Study, preset: Preset
) -> tuple[studies.Method, dict[str, float]]:
    """Make a hypernetwork for the quickstart; return the method, and seconds by part.

    Zoo and network are kept in the study's folder as they are trained: a run that was
    stopped goes on from there, and counts its own seconds. The test split is not read.
    """
    study.console.log(
        f"dihyfo: a zoo, of {preset.starts} classifiers without each class, and a "
        "hypernetwork"
    )
    artifacts = Artifacts(preset, study.out / "dihyfo", study.splits, study.classifier)
    trained = artifacts.trained("dihyfo_2", Variant())
    hyper = {"starts": preset.starts, "steps": preset.train.steps}
    make = lambda classifier, **hyper: hf.dihyfo(classifier, *trained)  # noqa: E731
    return studies.Method(make, hyper), artifacts.seconds
