"""What every test stands on; what concerns the environment comes before the first import of JAX."""

import gc
import os
from importlib.metadata import version
from pathlib import Path

if tuple(int(part) for part in version("jax").split(".")[:2]) >= (0, 10):
    # From jax 0.10 on, several batched Cholesky calls at once can hang for ever on a machine with
    # few cores. Seen with 0.10.2 on two cores, where NPROC=16 avoided it.
    os.environ.setdefault("NPROC", "16")
# Tolerances of 1e-12 are meant for float64 on a CPU. JAX_PLATFORMS=cuda, say, overrides.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Few examples, the same ones every time, and no deadline: a first call compiles.
hypothesis.settings.register_profile(
    "sigma_jax",
    deadline=None,
    derandomize=True,
    max_examples=20,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("sigma_jax")


def _forget() -> None:
    """Take all that is alive out of every later garbage collection.

    It lives to the end anyway: imports and what JAX has compiled, millions of objects. Every
    collection would look at each of them, and there are many: tracing makes them happen, and
    statsmodels asks for one at every call of Holm's procedure.
    """
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    _forget()


def _memory_maps() -> int:
    """How many memory maps this process has; 0 where the system does not say."""
    maps = Path("/proc/self/maps")
    return maps.read_bytes().count(b"\n") if maps.is_file() else 0


def _resident_gib() -> float:
    """The memory that this process has in use; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    pages = int(statm.read_text().split()[1]) if statm.is_file() else 0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**30


@pytest.fixture(scope="module", autouse=True)
def _collect_once_a_module():
    yield
    if _memory_maps() > 25_000 or _resident_gib() > 3.0:
        # Every compiled program keeps a few maps. Linux allows a process 65,530, and beyond that
        # the compiler crashes; the whole suite in two processes comes near it, and near 10 GB.
        jax.clear_caches()
        gc.unfreeze()
    _forget()
