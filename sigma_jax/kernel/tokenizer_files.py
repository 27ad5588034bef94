"""The tokenizer beside a model: loading it, whether it fits, and where answers end."""

from pathlib import Path
from typing import TYPE_CHECKING

from .checkpoint_files import find_directory
from .configuration import OuroConfig
from .json_files import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
_CHAT_STOPS = ("<|im_end|>", "<|endoftext|>")


def load_tokenizer(source: str | Path, *, revision: str | None = None) -> "PreTrainedTokenizerFast":
    """Load `tokenizer.json`, with its chat template, from a model's directory or from the hub.

    The file is taken as it is: a tokenizer class that is named beside it may build another one
    from the same merges.

    **Arguments:** as for `load_model`.

    **Raises** `FileNotFoundError` if it is not there, `ValueError` naming the directory if it
    cannot be read.
    """
    directory = find_directory(source, _FILES, revision=revision)
    read_json(directory / "tokenizer.json")
    from transformers import PreTrainedTokenizerFast  # seconds to import

    try:
        return PreTrainedTokenizerFast.from_pretrained(str(directory), local_files_only=True)
    except Exception as error:  # tokenizers raises plain ones
        raise ValueError(f"{directory} holds no tokenizer that can be read: {error}") from error


def check_tokenizer(tokenizer: "PreTrainedTokenizerFast", config: OuroConfig) -> None:
    """Raise `ValueError` if the tokenizer has ids that are not in the model's vocabulary.

    A vocabulary that is larger than the tokenizer's is common: it is padded to a round number.
    """
    count = max(tokenizer.get_vocab().values(), default=-1) + 1
    if count > config.vocab_size:
        raise ValueError(
            f"the tokenizer has ids up to {count - 1}; the model's vocabulary has "
            f"{config.vocab_size}, from 0 to {config.vocab_size - 1}."
        )


def stop_ids(tokenizer: "PreTrainedTokenizerFast", config: OuroConfig) -> tuple[int, ...]:
    """The tokens that end an answer, in ascending order.

    Those are the end of sequence of the config and of the tokenizer, and the end of a chat turn
    and of a text where the tokenizer has them: a published config names only one of these.
    """
    known = tokenizer.get_vocab()
    tokens = (*_CHAT_STOPS, tokenizer.eos_token)
    return tuple(sorted({config.eos_token_id} | {known[t] for t in tokens if t in known}))
