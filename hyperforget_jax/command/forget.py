"""``hyperforget forget``: a trained model of one's own, made to forget."""

import dataclasses
import json
import os
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import hyperforget_jax as hf
from hyperforget_jax import atomic_write, checks, manifests, trees
from hyperforget_jax.base import Variables
from hyperforget_jax.command import inputs, saved_variables
from hyperforget_jax.command.answer import answer
from hyperforget_jax.command.forget_record import (
    ACCURACIES,
    Answer,
    accuracies,
    write_record,
)
from hyperforget_jax.command.forget_request import labels, make_request
from hyperforget_jax.report.records import reads, write_json
from hyperforget_jax.user_warnings import warn_user

__all__ = ["Forget"]

# Points of retained accuracy.
_COSTLY = 2.0
_ONE_OF = tyro.conf.create_mutex_group(required=True, title="what to forget")


@dataclasses.dataclass(frozen=True)
class Forget:
    """Make a trained model forget classes or rows of its training data.

    Writes to --out: the unlearned variables in the format of --variables; info.json,
    what was done; results.json and report.html, the metrics before and after. The exit
    code is 0, or 2 if an input is not valid; then nothing is written.
    """

    variables: pathlib.Path
    """Orbax checkpoint's folder, or .safetensors with names params/Dense_0/kernel."""
    model: Annotated[str, tyro.conf.arg(metavar="MODULE:FACTORY")]
    """Function without arguments that returns a Flax module or a hf.Classifier."""
    data: Annotated[str, tyro.conf.arg(metavar="NAME|FILE.npz")]
    """Training data: digits, mnist, ..., or arrays x, y [, x_test, y_test, ...]."""
    out: pathlib.Path
    """Folder to write to. It must be empty, or not exist yet."""
    classes: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="INT [INT ...]"), _ONE_OF
    ] = ()
    """Labels of the classes to forget."""
    rows: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="FILE.npy"), _ONE_OF] = (
        None
    )
    """File with the indices of the training rows to forget, from 0."""
    random: Annotated[str | None, tyro.conf.arg(metavar="COUNT|SHARE"), _ONE_OF] = None
    """Forget random training rows: how many (500), or which fraction (0.01)."""
    method: str = "pgu"
    """Unlearning method of hf or hf.rivals, such as pgu, fiun, ssd or finetune."""
    set: tyro.conf.UseAppendAction[
        Annotated[tuple[tuple[str, ...], ...], tyro.conf.arg(metavar="NAME=VALUE")]
    ] = ()
    """Hyper-parameters of the method, such as --set steps=50 batch_size=64."""
    seed: int = 0
    """Random seed, of --random and of the method."""
    json: bool = False
    """Print info.json instead of a table."""

    def run(self) -> int:
        """Forget, write, print, and return the exit code."""
        with atomic_write.new_folder("--out", self.out) as folder:
            info = _forget(self, folder)
        if self.json:
            sys.stdout.write(json.dumps(info, indent=2) + "\n")
        else:
            _print(info, self.out)
        return 0


def _forget(options: Forget, folder: pathlib.Path) -> dict[str, Any]:
    started = time.perf_counter()
    checks.check_seed(options.seed)
    key_request, *keys = jax.random.split(jax.random.key(options.seed), 3)
    saved = saved_variables.read(options.variables)
    classifier = inputs.load_classifier(options.model)
    data = inputs.load_data(options.data)
    variables, left_out = saved_variables.fit(saved, classifier, data.train.x)
    num_classes = checks.check_init(classifier, variables, data.train)
    if data.test is not None:
        checks.check_examples(data.test, num_classes=num_classes, name="test")
        checks.check_held_out(data.train, data.test, "test")
    request = make_request(options, key_request, data.train, num_classes)
    is_spared = options.method == "pgu" and not options.classes and data.probe is None
    if is_spared:
        data = inputs.spare_probe(options.data, data)
        line = "No x_probe in --data: pgu takes half of the test rows for it."
        _say(options, f"{line} Test accuracies are of the others.")
    unlearner, settings = inputs.make_unlearner(
        options.method,
        [each for part in options.set for each in part],
        classifier,
        data.probe,
        of_rows=not options.classes,
    )
    _say(options, f"Unlearning by {options.method}.")
    after, seconds, found = answer(keys, unlearner, variables, request)

    _warn(options.method, found, variables, after)
    _say(options, "Evaluating before and after.")
    answered = Answer(
        options.method, variables, after, unlearner.access, seconds, settings
    )
    document = write_record(
        folder, classifier, answered, request, data.test, dataset=options.data
    )
    asked = _asked(options, request)
    saved_variables.write(
        folder,
        saved.form,
        after,
        model=classifier.description,
        dataset=options.data,
        config={"method": options.method, **asked},
    )
    info = {
        "method": options.method,
        "settings": settings,
        "reads": reads(unlearner.access),
        "request": asked,
        "variables": str(options.variables),
        "form": saved.form,
        "left_out": left_out,
        "model": options.model,
        "data": options.data,
        "probe_of_test_rows": is_spared,
        "seed": options.seed,
        "accuracy": accuracies(document),
        "info": found,
        "seconds": {**seconds, "all": time.perf_counter() - started},
        "device": document["device"],
        "versions": manifests.package_versions(),
    }
    write_json(folder / "info.json", info)
    return info


def _say(options: Forget, line: str) -> None:
    if not options.json:
        sys.stderr.write(line + "\n")


def _warn(
    method: str, found: Mapping[str, Any], before: Variables, after: Variables
) -> None:
    """Warn of a method that broke down, or that left the model as it was."""
    failed_at = found.get("failed_at", -1)
    old, new = trees.by_path(before), trees.by_path(after)
    same = all(
        np.array_equal(leaf, old[path]) if path in old else not np.any(leaf)  # A mask.
        for path, leaf in new.items()
    )
    if failed_at >= 0:
        warn_user(
            f"{method} broke down at step {failed_at}, where the loss or the update "
            f"was not finite{', and left the model unchanged' if same else ''}. Try "
            "other settings (--set), such as a lower learning rate."
        )
    elif same:
        warn_user(
            f"{method} left the model unchanged: with these settings it finds nothing "
            "to change for this request. Try others (--set) or another --method."
        )


def _asked(options: Forget, request: hf.ForgetRequest) -> dict[str, Any]:
    """Say which rows were forgotten: for draws it is nowhere else."""
    rows = np.asarray(request.rows)[np.asarray(request.forget.weight) > 0]
    if options.classes:
        return {"classes": list(labels(options.classes)), "num_rows": rows.size}
    return {"rows": sorted(rows.tolist()), "num_rows": rows.size}


def _print(info: dict[str, Any], out: pathlib.Path) -> None:
    table = Table("accuracy on", "before", "after")
    for name, said in ACCURACIES.items():
        if name in info["accuracy"]:
            both = info["accuracy"][name]
            table.add_row(said, f"{both['before']:.3f}", f"{both['after']:.3f}")
    console = Console()
    console.print(table)
    seconds = info["seconds"]
    lines = [
        f"{info['method']}, asked to forget {info['request']['num_rows']} training "
        f"rows: {seconds['unlearn']:.3g} s, beside {seconds['init']:.3g} s to prepare "
        f"and {seconds['compile']:.3g} s to compile; {seconds['all']:.3g} s in all, "
        "reading and evaluation included.",
        f"Written to {out}: {', '.join(sorted(os.listdir(out)))}.",
    ]
    accuracy = info["accuracy"]
    lost = next(
        100 * (accuracy[name]["before"] - accuracy[name]["after"])
        for name in ("retain_accuracy_test", "retain_accuracy_train")
        if name in accuracy
    )
    if lost > _COSTLY:
        lines.insert(
            1,
            f"{lost:.1f} points of accuracy on retained rows were lost: try another "
            f"--method, such as {'fiun' if 'classes' in info['request'] else 'kfade'}, "
            "or other settings of it by --set.",
        )
    if "classes" not in info["request"]:
        lines.append(
            "A retrained model may be right on many of these rows too, so accuracy "
            "does not show that they were forgotten: hyperforget audit compares "
            "at least 5 models that forgot with at least 10 retrained ones."
        )
    if info["left_out"]:
        lines.append(f"Left out of the variables: {', '.join(info['left_out'])}.")
    for line in lines:
        console.print(line, markup=False, highlight=False)
