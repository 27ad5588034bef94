"""A model under the name it is served by: its tokenizer, its chat format, what is said of it."""

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax

from ..kernel import Ouro, check_tokenizer, stop_ids
from .errors import RequestError, invalid
from .settings import Limits

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ROLES = ("system", "user", "assistant")


class ServedModel:
    """A model, its tokenizer and its name, as `ouro:latest`; a name without a tag gets `latest`.

    **Arguments:** `context`, how many tokens a request and its answer may have together, cut to
    what the model has positions for.

    **Raises** `ValueError` for a context below one, an empty name, or a tokenizer with ids that the
    model does not have.
    """

    def __init__(
        self,
        model: Ouro,
        tokenizer: "PreTrainedTokenizerFast",
        *,
        name: str = "ouro:latest",
        context: int = 2048,
    ):
        if context < 1:
            raise ValueError(f"context must be at least 1; got {context}.")
        if not name or name.startswith(":"):
            raise ValueError(f"name must be a text such as 'ouro:latest'; got {name!r}.")
        check_tokenizer(tokenizer, model.config)
        config = model.config
        self.model, self.tokenizer, self.name = model, tokenizer, _tagged(name)
        self.stop_ids = stop_ids(tokenizer, config)
        self.limits = Limits(
            context=min(context, config.max_position_embeddings),
            loops=config.total_ut_steps,
            exit_threshold=config.early_exit_threshold,
        )
        self.loaded = datetime.datetime.now(datetime.UTC)
        leaves = jax.tree.leaves(model)
        self.parameters = sum(leaf.size for leaf in leaves)
        self.size = sum(leaf.nbytes for leaf in leaves)

    def require(self, name: str) -> None:
        """Raise `RequestError`, 404, unless `name` is this model's."""
        if _tagged(name) != self.name:
            raise RequestError(
                404,
                f"model {name[:200]!r} not found: this server has {self.name!r}.",
                field="model",
                code="model_not_found",
            )

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        """The text of a conversation up to where the assistant speaks next.

        **Raises** `RequestError`, 400, if the model has no chat template or it refuses this.
        """
        if self.tokenizer.chat_template is None:
            raise invalid("the model has no chat template: it can only continue a text.")
        try:
            text = self.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # whatever the template raises
            raise invalid(f"the chat template refuses these messages: {error}") from error
        assert isinstance(text, str)
        return text

    def encode(self, text: str, *, rendered: bool = False) -> list[int]:
        """The token ids of a text; of one that was `rendered`, nothing is put around it."""
        backend = self.tokenizer.backend_tokenizer
        return backend.encode(text, add_special_tokens=not rendered).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included."""
        return self.tokenizer.backend_tokenizer.decode(list(ids), skip_special_tokens=False)

    def require_fits(self, ids: Sequence[int], field: str) -> None:
        """Raise `RequestError`, 400, if a prompt is empty or longer than the context."""
        if not ids:
            raise invalid(f"{field} must not be empty.", field)
        if len(ids) > self.limits.context:
            raise invalid(
                f"{field} has {len(ids)} tokens, more than the context of {self.limits.context}.",
                field,
                "context_length_exceeded",
            )

    @property
    def digest(self) -> str:
        """A SHA-256 of name and shape. The weights are not read for it."""
        about = json.dumps([self.name, dataclasses.asdict(self.model.config)], sort_keys=True)
        return hashlib.sha256(about.encode()).hexdigest()

    @property
    def details(self) -> dict[str, Any]:
        """What Ollama lists of a model's kind."""
        bits = {"float32": "F32", "bfloat16": "BF16"}
        return {
            "parent_model": "",
            "format": "safetensors",
            "family": "ouro",
            "families": ["ouro"],
            "parameter_size": _rounded(self.parameters),
            "quantization_level": bits.get(str(self.model.dtype), str(self.model.dtype)),
        }

    @property
    def model_info(self) -> dict[str, Any]:
        """What Ollama shows of a model's shape, under its dotted names."""
        config = self.model.config
        return {
            "general.architecture": "ouro",
            "general.basename": self.name.split(":")[0],
            "general.parameter_count": self.parameters,
            "ouro.attention.head_count": config.num_attention_heads,
            "ouro.attention.head_count_kv": config.num_key_value_heads,
            "ouro.attention.key_length": config.rotary_size,
            "ouro.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
            "ouro.block_count": config.num_hidden_layers,
            "ouro.context_length": self.limits.context,
            "ouro.embedding_length": config.hidden_size,
            "ouro.feed_forward_length": config.intermediate_size,
            "ouro.loop_count": config.total_ut_steps,
            "ouro.rope.freq_base": config.rope_theta,
            "ouro.vocab_size": config.vocab_size,
        }


def _tagged(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def _rounded(count: int) -> str:
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= unit:
            return f"{count / unit:.1f}{letter}"
    return str(count)
