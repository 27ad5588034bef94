"""From token ids to text, one token at a time."""

from collections.abc import Callable, Sequence

_UNKNOWN = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """Turns the tokens of a byte-level tokenizer into text that never ends within a character.

    Bytes that may yet become a character are held back; those that have turned out to make none
    read as U+FFFD, and any that are held at the end are left out. The pieces together are the
    decoding of all tokens, but for that.

    **Arguments:** `decode`, the text of token ids; the texts of two runs of tokens, joined, must be
    that of the joined runs wherever both are whole, as byte-level tokenizers have it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]):
        self._decode = decode
        self._open: list[int] = []
        self._shown = 0

    def push(self, token: int) -> str:
        """Take the next token; return the text that is certain now."""
        self._open.append(token)
        text = self._decode(self._open)
        # An unfinished character is at most three bytes, which read as one U+FFFD.
        certain = len(text) - text.endswith(_UNKNOWN)
        piece = text[self._shown : certain]
        self._shown = certain
        if certain == len(text):
            self._open, self._shown = [], 0
        return piece
