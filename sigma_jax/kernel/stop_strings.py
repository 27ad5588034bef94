"""Stopping at a piece of text, which tokens may cut anywhere."""

from collections.abc import Iterable


class StopStrings:
    """Lets a stream of text through up to the first stop string, which is left out.

    The first is the one that is complete first, the longest if several are. Text that may yet turn
    out to be the beginning of one is held back until that is known, so where the stream is cut
    into pieces makes no difference.

    **Raises** `ValueError` for an empty stop string.
    """

    def __init__(self, strings: Iterable[str]):
        self.strings = tuple(strings)
        for string in self.strings:
            if not isinstance(string, str) or not string:
                raise ValueError(
                    f"stop strings must be texts of one letter or more; got {string!r}."
                )
        self.stopped = False
        self._held = ""

    def push(self, text: str) -> str:
        """Take the next piece of the stream; return what may be shown. Nothing after a stop."""
        if self.stopped:
            return ""
        text = self._held + text
        found = [(text.find(stop) + len(stop), -len(stop)) for stop in self.strings if stop in text]
        if found:
            self.stopped, self._held = True, ""
            return text[: sum(min(found))]
        held = max((_overlap(text, string) for string in self.strings), default=0)
        shown = len(text) - held
        self._held = text[shown:]
        return text[:shown]

    def finish(self) -> str:
        """The stream has ended: return what was held back."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, string: str) -> int:
    """The length of the longest end of `text` that begins `string`, short of all of it."""
    longest = min(len(text), len(string) - 1)
    return next((n for n in range(longest, 0, -1) if string.startswith(text[-n:])), 0)
