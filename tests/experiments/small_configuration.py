"""A program's configuration as its command line would make it, but small."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

ROOT = Path(__file__).parents[2]


def composed(name: str, small: list[str], *overrides: str) -> DictConfig:
    """`conf/<name>.yaml` with the overrides `small`, then `overrides`."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose(name, overrides=[*small, *overrides])
