"""What every program does before JAX starts, and how it ends on bad input."""

import functools
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from omegaconf import DictConfig


def prepare() -> None:
    """Set JAX up for a program on this machine; call it before anything imports JAX.

    Double precision; one host device a core, so that ensembles use all of them; a compilation
    cache on disk, which needs Equinox's runtime errors to become NaN (every program checks its
    results); and on JAX ≥ 0.10, which can hang in batched factorisations on few cores, NPROC=16:
    only there, because it halves the speed of an ensemble on two cores.
    """
    # XLA logs as errors that a program from the cache was tuned for gathers unlike this machine's;
    # what really fails raises.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if tuple(map(int, version("jax").split(".")[:2])) >= (0, 10):
        os.environ.setdefault("NPROC", "16")
    os.environ.setdefault("EQX_ON_ERROR", "nan")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={cores}".strip()
    import jax

    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sigma_jax"
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def one_line_errors(task: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """Make bad input end a program with one line and exit status 2, without a traceback."""

    @functools.wraps(task)
    def wrapped(config: DictConfig) -> None:
        try:
            task(config)
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)

    return wrapped
