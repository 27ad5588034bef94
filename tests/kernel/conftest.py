import jax
import pytest


@pytest.fixture(scope="module")
def compiled_in_a_hurry():
    """For many small programs, which take longer to compile well than to run badly."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
