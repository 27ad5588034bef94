"""sigma_jax: differentiable simulation of the Σ-Model, in JAX.

Each room is a subpackage with a short list of public names: `sigma_jax.solvers`,
`sigma_jax.statistics`, `sigma_jax.schema`, `sigma_jax.report`.  Import the room you need;
nothing heavy is imported here and nothing sets JAX's global options.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
