"""Strict JAX for every test, eight fake devices, and one cache of compilations."""

import gc
import itertools
import os
import pathlib
import subprocess
import sys

import chex
import hypothesis
import jax
import pytest

# Tests compile much and compute little. Set before JAX starts, and inherited by the
# workers and scripts that tests run. A flag that XLA no longer knows would end the
# process, so it is tried in another.
QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
if QUICK not in os.environ.get("XLA_FLAGS", ""):
    flags = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}".strip()
    tried = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        timeout=120,
    )
    if tried.returncode == 0:
        os.environ["XLA_FLAGS"] = flags

# Tracing makes very many small objects and few cycles: looking for these after every
# 700 of them costs a tenth of the time.
gc.set_threshold(50_000, 20, 100)

chex.set_n_cpu_devices(8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_legacy_prng_key", "error")
CACHE = {
    "jax_compilation_cache_dir": pathlib.Path(__file__).parents[1]
    / ".pytest_cache/jax",
    "jax_persistent_cache_min_compile_time_secs": 0.2,
    "jax_persistent_cache_min_entry_size_bytes": 0,
}
for name, value in CACHE.items():
    jax.config.update(name, str(value) if name.endswith("dir") else value)
    os.environ[name.upper()] = str(value)  # For the scripts that tests run.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@pytest.fixture(autouse=True, scope="module")
def _free_memory():
    """What one module compiled is of no use to the next, and adds up to gigabytes."""
    yield
    jax.clear_caches()


@pytest.hookimpl(tryfirst=True)  # Before tests are chosen by their marks.
def pytest_collection_modifyitems(items):
    """Tests that share what they compile go to one worker: files, or table rows."""
    from tests.methods.table import SHOWN_BY_OTHERS

    for item in items:
        file = item.nodeid.split("::")[0]
        row = getattr(item, "callspec", None)
        # Rows that repeat what another one shows are for CI.
        if row is not None and row.params.get("method") in SHOWN_BY_OTHERS:
            item.add_marker(pytest.mark.slow)
        if file.startswith("tests/rivals/"):  # Each compiles what it alone needs.
            item.add_marker(pytest.mark.slow)
        if file.endswith("test_conformance.py") and row is not None:
            file = f"{file} {row.params['method']} {row.params['network']}"
        if file.endswith("test_results.py"):
            file = item.nodeid  # Each of them is a process of its own.
        item.add_marker(pytest.mark.xdist_group(file))
    # The longest first, or one worker waits for the other at the end.
    items.sort(key=lambda item: "test_results.py" not in item.nodeid)


TESTS = itertools.count(1)


@pytest.fixture(autouse=True)
def _few_maps():
    """Every compiled program maps memory, and a process may do that 65,530 times."""
    yield
    maps = pathlib.Path("/proc/self/maps")  # Long, and slow to read.
    if next(TESTS) % 10 == 0 and maps.exists():
        if maps.read_bytes().count(b"\n") > 45_000:
            jax.clear_caches()


hypothesis.settings.register_profile(
    "fixed", derandomize=True, deadline=None, max_examples=25
)
hypothesis.settings.load_profile("fixed")
