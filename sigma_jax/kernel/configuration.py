"""The shape of an Ouro model, read strictly from a published `config.json`."""

import dataclasses
from pathlib import Path
from typing import Any

from .._check import require_in
from .json_files import read_json

MODEL_TYPE = "ouro"

_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
)
_REQUIRED = (*_SIZES, "rope_theta", "rms_norm_eps")


@dataclasses.dataclass(frozen=True)
class OuroConfig:
    """The shape of an Ouro model. Names are those of the published `config.json`.

    `total_ut_steps` is T, the number of times the same layers are run over a token; every other
    size is that of any decoder-only transformer. `head_dim` is hidden_size / num_attention_heads
    unless given.

    **Raises** `ValueError` for a size that is not positive, heads that do not share the key-value
    heads evenly, or an odd `head_dim`.

    Source: Zhu et al., "Scaling Latent Reasoning via Looped Language Models" (arXiv 2510.25741).
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    head_dim: int | None = None
    total_ut_steps: int = 4
    early_exit_threshold: float = 1.0
    rope_theta: float = 1e6
    rms_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False
    bos_token_id: int = 0
    eos_token_id: int = 0
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        if self.head_dim is None:
            size = self.hidden_size // max(self.num_attention_heads, 1)
            object.__setattr__(self, "head_dim", size)
        for name in (*_SIZES, "head_dim", "total_ut_steps"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a positive whole number; got {value!r}.")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                f"num_key_value_heads ({self.num_key_value_heads})."
            )
        if self.rotary_size % 2:
            raise ValueError(f"head_dim must be even for rotary positions; got {self.head_dim}.")
        require_in("rope_theta", self.rope_theta, 0.0, open_low=True)
        require_in("rms_norm_eps", self.rms_norm_eps, 0.0)
        require_in("early_exit_threshold", self.early_exit_threshold, 0.0)

    @property
    def rotary_size(self) -> int:
        """The size of one head, all of which is rotated."""
        assert self.head_dim is not None
        return self.head_dim

    @classmethod
    def from_dict(cls, fields: dict[str, Any], *, loops: int | None = None) -> "OuroConfig":
        """Read the fields of a `config.json`; `loops` replaces `total_ut_steps`.

        **Raises** `ValueError` for another model type, a required field that is missing, or a
        variant that this model does not have (sliding windows, scaled rotary positions, another
        activation).
        """
        if fields.get("model_type") != MODEL_TYPE:
            raise ValueError(
                f"the config is of model type {fields.get('model_type')!r}; only {MODEL_TYPE!r} "
                "can be loaded."
            )
        missing = [name for name in _REQUIRED if name not in fields]
        if missing:
            raise ValueError(f"the config lacks {', '.join(missing)}.")
        refused = {
            "use_sliding_window": bool(fields.get("use_sliding_window")),
            "rope_scaling": fields.get("rope_scaling") is not None,
            "hidden_act": fields.get("hidden_act", "silu") != "silu",
        }
        for name in (name for name, found in refused.items() if found):
            raise ValueError(f"the config asks for {name} = {fields[name]!r}, which Ouro has not.")
        known = {field.name for field in dataclasses.fields(cls)}
        values = {name: value for name, value in fields.items() if name in known}
        if loops is not None:
            values["total_ut_steps"] = loops
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The fields of a `config.json` that reads back as this config."""
        return {
            "model_type": MODEL_TYPE,
            "architectures": ["OuroForCausalLM"],
            "hidden_act": "silu",
            **dataclasses.asdict(self),
        }


def read_config(directory: str | Path, *, loops: int | None = None) -> OuroConfig:
    """Read `config.json` of a model directory; `loops` replaces the number of loops.

    **Raises** `FileNotFoundError` if it is not there and `ValueError` naming the file if it is not
    a JSON object or not the config of an Ouro model.
    """
    path = Path(directory) / "config.json"
    fields = read_json(path)
    try:
        return OuroConfig.from_dict(fields, loops=loops)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
