"""Thin Hydra programs over sigma_jax: `python -m experiments.NAME --help`."""
