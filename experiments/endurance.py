"""Kill long jobs at random points: what they leave at last must be the same to the bit.

    python experiments/endurance.py --out runs/endurance

Each kind of job is done once without a break. Then it is done again and killed
(``SIGKILL``) at a random point after it first kept something, is gone on with, may be
killed again at any point, and so on until it ends; and all this anew in another folder,
until there were as many kills as asked for.
"""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import endurance_jobs
import numpy as np
import tyro
from rich.console import Console

import hyperforget_jax as hf
import runs

LOG = "log.txt"


@dataclasses.dataclass(frozen=True)
class Endurance:
    """Kill long jobs at random points, and compare what they leave."""

    jobs: tuple[str, ...] = tuple(endurance_jobs.JOBS)
    """The kinds of job."""
    kills: int = 20
    """How often each kind is killed."""
    seed: int = 0
    """Of the points."""
    out: Path = Path("runs/endurance")
    """Where jobs keep their work, and the results go: a new folder."""
    preset: str = dataclasses.field(default="endurance", init=False)


def main(config: Endurance) -> None:
    """Kill every kind of job, and fail if one ends otherwise than undisturbed."""
    console, begin = Console(), time.perf_counter()
    runs.check_known("--jobs", config.jobs, endurance_jobs.JOBS)
    record = {"kills": config.kills, "seed": config.seed, "jobs": list(config.jobs)}
    runs.open_folder(config.out, record, resume=False)
    rows = []
    for job in config.jobs:
        found = endure(job, config)
        console.print(f"{job}: {found}")
        rows.append(
            hf.report.results_row(
                job,
                [found],
                dataset="digits",
                model="mlp-16" if job != "audit" else "mlp-64",
                scenario="killed",
                request="none",
                access=None,
                seconds=None,
                over="run",
            )
        )
    runs.write(config, rows, record, begin, references=False)
    if failed := [row["method"] for row in rows if row["metrics"]["differ"]["max"]]:
        raise SystemExit(f"Not the same after kills: {failed}.")


def endure(job: str, config: Endurance) -> dict[str, float]:
    """Kill a job as often as asked for.

    Returns:
        ``kills``, all of them after work was begun; ``ends``, how often the job came to
        its end, and ``differ``, how many of these ends were not that of the job without
        a break; its ``seconds``.
    """
    random = np.random.default_rng([config.seed, *job.encode()])
    # Once to compile: programs are kept, as users keep them.
    for name in ("compiled", "whole"):
        since = time.perf_counter()
        whole = config.out / job / name
        process = start(job, whole, config.out)
        _await_work(process, whole)
        begun = time.perf_counter() - since
        if process.wait():
            raise SystemExit(f"{job} fails even when nothing kills it: see {whole}.")
    seconds = time.perf_counter() - since
    kills = ends = differ = 0
    while kills < config.kills:
        folder = config.out / job / f"killed-{ends:02d}"
        fresh = True
        while True:
            process = start(job, folder, config.out)
            if fresh:
                _await_work(process, folder)
            left, most = kills < config.kills, seconds - begun if fresh else seconds
            try:
                process.wait(random.uniform(0, most) if left else None)
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
                fresh = False
        if process.returncode:
            raise SystemExit(f"{job} fails after {kills} kills: see {folder}.")
        ends += 1
        texts = [(each / "digest.txt").read_text() for each in (whole, folder)]
        differ += texts[0] != texts[1]
    return dict(kills=kills, ends=ends, differ=differ, seconds=seconds)


def _await_work(process: subprocess.Popen, folder: Path) -> None:
    """Wait until a job keeps something of its work, or has ended."""
    known = {LOG, "config.json"}
    while process.poll() is None and not any(
        path.is_file() and path.name not in known for path in folder.rglob("*")
    ):
        time.sleep(0.01)


def start(job: str, folder: Path, out: Path) -> subprocess.Popen:
    """Start a job, or the rest of it; what it prints goes to a file in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    script = Path(__file__).with_name("endurance_jobs.py")
    env = {
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_COMPILATION_CACHE_DIR": str(out / "programs"),
        **os.environ,
    }
    with (folder / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, script, job, folder],
            env=env,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


if __name__ == "__main__":
    main(tyro.cli(Endurance))
