"""What every test stands on; what concerns the environment comes before the first import of JAX."""

import gc
import os
from importlib.metadata import version

if tuple(int(part) for part in version("jax").split(".")[:2]) >= (0, 10):
    # From jax 0.10 on, several batched Cholesky calls at once can hang for ever on a machine with
    # few cores. Seen with 0.10.2 on two cores, where NPROC=16 avoided it.
    os.environ.setdefault("NPROC", "16")
# Tolerances of 1e-12 are meant for float64 on a CPU. JAX_PLATFORMS=cuda, say, overrides.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import jax

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


def pytest_collection_finish() -> None:
    """Take what the imports made out of every later garbage collection.

    JAX collects often while it traces, and statsmodels at every call of Holm's procedure; hundreds
    of thousands of objects that live to the end need not be looked at each time.
    """
    gc.collect()
    gc.freeze()
