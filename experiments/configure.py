"""From a Hydra configuration to a model and a starting state."""

from typing import Any

import jax
import jax.numpy as jnp
from omegaconf import DictConfig, OmegaConf

from sigma_jax import schema


def make_rates(config: DictConfig, variant: str) -> schema.Rates:
    """The configured rates, with the saturation that belongs to `variant`."""
    saturation = config.saturation.get(variant, config.saturation.default)
    return schema.Rates(**plain(config.rates), saturation=saturation)


def make_model(config: DictConfig, variant: str, regime: str) -> schema.SigmaModel:
    """The configured model of a named variant in a named regime."""
    conditions = plain(config.environment)
    environment = schema.regime(regime, config.withdrawal, **conditions)
    return schema.sigma_model(variant, rates=make_rates(config, variant), environment=environment)


def make_initial(config: DictConfig) -> schema.State:
    """The configured starting state of one agent in one domain and modality."""
    return schema.initial_state(**plain(config.initial), frontier=config.environment.frontier)


def as_arrays(model: schema.SigmaModel) -> schema.SigmaModel:
    """The same model with arrays for numbers: compiled code then serves any values."""
    return jax.tree.map(jnp.asarray, model)


def plain(section: DictConfig) -> dict[str, Any]:
    """A configuration section as a dictionary."""
    return OmegaConf.to_container(section, resolve=True)  # pyright: ignore[reportReturnType]
