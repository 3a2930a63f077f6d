"""What the study of hypernetworks makes before it asks: zoos and trained networks.

Zoos, answers of retrained models and hypernetworks are checkpoints under the study's
folder, those that are not whole yet too, so that a run that was stopped goes on from
there.
"""

import dataclasses
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import study as studies
from dihyfo_presets import Preset

import hyperforget_jax as hf
from hyperforget_jax import hypernet


def flat(params: Any) -> np.ndarray:
    """Stacked parameters as rows of a matrix, ``[P, D]``."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
    return np.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], 1)


class Taught(NamedTuple):
    """A model, and the answers that retrained models give, ``[M, N, C]``."""

    variables: Any
    answers: jax.Array


@dataclasses.dataclass
class World:
    """Everything that is made before the first request.

    Attributes:
        preset: what it is made of.
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

    def answers(self) -> jax.Array:
        """What retrained models answer on training rows, ``[M, N, C]``."""
        return self._kept(
            "answers",
            lambda: hypernet.retrained_answers(
                jax.random.key(1_001),
                self.classifier,
                self.splits.train,
                masks=self.preset.masks,
                training=self.preset.start(),
                members=self.preset.oracles,
                directory=self._begun / "answers",
            ),
        )

    def anchored(self, share: float = 1.0) -> hypernet.Zoo:
        """The zoo of the anchored mode, or the runs of a share of its starts."""
        zoo = self._zoo("zoo", lambda: self._anchored(self.preset.starts, 1_000))
        if share == 1:
            return zoo
        assert zoo.start_loss is not None
        count = round(share * zoo.start_loss.shape[0])
        runs = zoo.start < count
        return hypernet.Zoo(
            jax.tree.map(lambda leaf: leaf[runs], zoo.variables),
            zoo.masks[runs],
            zoo.start[runs],
            zoo.loss[runs],
            zoo.accuracy[runs],
            jax.tree.map(lambda leaf: leaf[:count], zoo.starts),
            zoo.start_loss[:count],
            zoo.steps,
        )

    def mixed(self) -> hypernet.Zoo:
        """An anchored zoo of as many starts, some of them trained as strangers are."""

        def make():
            kinds = [kind for kind in self.preset.strangers if kind.mixed]
            each, own = self.preset.starts // (1 + len(kinds)), self.preset.start()
            parts = [self.starts(1_005, own, self.preset.starts - each * len(kinds))]
            for number, kind in enumerate(kinds):
                training = kind.training(own.batch_size)
                parts.append(self.starts(1_010 + number, training, each))
            starts = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
            return self._anchored(starts, 1_007)

        return self._zoo("mixed-zoo", make)

    def starts(self, seed: int, training: hypernet.Training, members: int) -> Any:
        """Variables of trained models, stacked."""
        population = hf.fit_population(
            jax.random.key(seed),
            self.classifier,
            self.splits.train,
            training.optimizer,
            training.steps,
            members=members,
            batch_size=training.batch_size,
            directory=self.out / f"starts-{seed}",
        )
        failed = np.flatnonzero(np.asarray(population.failed_at) >= 0)
        assert not failed.size, f"trainings {failed.tolist()} diverged"
        return population.variables

    def held_out(self, starts: Any) -> hypernet.Zoo:
        """Runs from starts that no zoo has, single classes only."""
        masks, answers = self.preset.masks[:10], self.answers()[:10]
        return self._anchored(starts, 1_002, masks, answers)

    def free(self, match: bool = True) -> hypernet.Zoo:
        """The zoo of the free mode, its hidden units in one order if ``match``."""

        def make():
            return hypernet.free_zoo(
                jax.random.key(1_003),
                self.classifier,
                self.splits.train,
                self.splits.probe,
                masks=self.preset.masks,
                runs=self.preset.free_runs,
                training=self.preset.start(),
            )

        zoo = self._zoo("free-zoo", make)
        tokenizer = self.network("free").tokenizer
        if not match or tokenizer.permute is None:
            return zoo
        if "matched" in self.zoos:
            return self.zoos["matched"]
        last = jax.tree.map(lambda leaf: leaf[:, -1], zoo.variables["params"])
        _, orders, _ = hypernet.canonicalise(tokenizer, last, rounds=8)
        params = hypernet.permute_all(tokenizer, zoo.variables["params"], orders)
        params = jax.tree.map(np.asarray, params)
        self.zoos["matched"] = zoo._replace(variables={"params": params})
        return self.zoos["matched"]

    def network(self, mode: str, **changes) -> hypernet.Hypernetwork:
        """A hypernetwork that has learnt nothing."""
        recipe = dataclasses.replace(self.preset.network, mode=mode, **changes)
        return hypernet.build(self.classifier, self.splits.train.x, recipe)

    def trained(
        self,
        name: str,
        seed: int,
        *,
        mode: str = "anchored",
        share: float = 1.0,
        match: bool = True,
        mixed: bool = False,
        course: dict[str, Any] | None = None,
        **changes,
    ) -> hypernet.Hypernetwork:
        """A trained hypernetwork, by a name of its own.

        Args:
            name: for its checkpoint.
            seed: of its training.
            mode: anchored or free.
            share: of the anchored zoo that it sees.
            match: whether the free zoo's hidden units are in one order.
            mixed: whether it learns from the mixed zoo, the whole of it.
            course: changes of the course.
            changes: changes of the recipe.
        """
        path = self.out / "networks" / f"{name}-{seed}"
        if path.exists():
            return hypernet.load_hypernetwork(path, self.classifier)
        anchored = mode == "anchored"
        if mixed:
            assert anchored and share == 1
            zoo = self.mixed()
        else:
            zoo = self.anchored(share) if anchored else self.free(match)
        usual = self.preset.course if anchored else self.preset.free_course
        begun = time.perf_counter()
        network, trace = hypernet.fit_hypernetwork(
            jax.random.fold_in(jax.random.key(1_004), seed),
            self.network(mode, **changes),
            self.classifier,
            zoo,
            self.splits.train,
            usual._replace(**(course or {})),
            directory=self._begun / f"{name}-{seed}",
        )
        self.seconds[f"{name}-{seed}"] = time.perf_counter() - begun
        hypernet.save_hypernetwork(path, network)
        np.savetxt(path / "trace.txt", trace, fmt="%.6g")
        shutil.rmtree(self._begun, ignore_errors=True)
        return network

    def teacher(self) -> studies.Method:
        """What the anchored zoo's runs are: one more of them, from any start."""
        answers, training = self.answers(), self.preset.forget()
        table = np.zeros((len(self.preset.masks), 10), bool)
        for row, classes in enumerate(self.preset.masks):
            table[row, list(classes)] = True
        objective = hypernet.distillation(self.classifier)

        def make(classifier):
            def init(key, variables, data):
                del key, data
                return Taught(variables, answers)

            def unlearn(key, state, request):
                # Only sets of the zoo are asked for.
                mask = jnp.argmax(jnp.all(table == request.classes[None], axis=1))
                variables, info = hf.training.loop.run(
                    key,
                    objective(mask, state.answers),
                    state.variables,
                    (request.data,),
                    training.optimizer,
                    steps=training.steps,
                    batch_size=training.batch_size,
                )
                return state._replace(variables=variables), info

            access = hf.Access(
                before={"retain", "forget", "classes"},
                unlearn={"retain", "forget", "classes"},
                remains="the answers of retrained models on every training row",
            )
            return hf.Unlearner(init, unlearn, access)

        return studies.Method(make, {})

    def _anchored(self, starts, seed, masks=None, answers=None) -> hypernet.Zoo:
        return hypernet.anchored_zoo(
            jax.random.key(seed),
            self.classifier,
            self.splits.train,
            self.splits.probe,
            masks=self.preset.masks if masks is None else masks,
            starts=starts,
            start=self.preset.start(),
            forget=self.preset.forget(),
            checkpoint_steps=self.preset.checkpoint_steps,
            answers=self.answers() if answers is None else answers,
            directory=self._begun / f"zoo-{seed}" if masks is None else None,
        )

    @property
    def _begun(self) -> Path:
        """Where parts are kept that are not whole yet; gone with the last of them."""
        return self.out / "begun"

    def _zoo(self, name: str, make) -> hypernet.Zoo:
        path, begun = self.out / name, time.perf_counter()
        if not path.exists():
            hypernet.save_zoo(path, make(), model=self.classifier.description)
            self.seconds[name] = time.perf_counter() - begun
            shutil.rmtree(self._begun, ignore_errors=True)
        if name not in self.zoos:
            self.zoos[name] = hypernet.load_zoo(path)
        return self.zoos[name]

    def _kept(self, name: str, make) -> Any:
        path = self.out / name
        if path.exists():
            return hf.checkpointing.load(path, kind=name)
        begun = time.perf_counter()
        made = jax.block_until_ready(make())
        self.seconds[name] = time.perf_counter() - begun
        hf.checkpointing.save(path, made, kind=name)
        shutil.rmtree(self._begun, ignore_errors=True)
        return made
