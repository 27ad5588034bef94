"""Random numbers by name: the same key and name give the same number, in every process."""

import hashlib
import statistics
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

_T = TypeVar("_T")
_NORMAL = statistics.NormalDist()


class KeyedDraws(NamedTuple):
    """Numbers that depend on a key and a name alone, so two runs of one key share them.

    Nothing is used up: asking twice, or for something else in between, changes no number.
    """

    key: str
    settled: float = 0.0
    """The share of names, always the same ones, for which the key is left out."""

    def uniform(self, *names: object) -> float:
        """In (0, 1), of SHA-256 of the key and the names."""
        if self.is_settled(*names):
            return KeyedDraws("").uniform(*names)
        text = "\x1f".join((self.key, *map(str, names)))
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        return (int.from_bytes(digest[:6], "big") + 0.5) / 2**48

    def is_settled(self, *names: object) -> bool:
        """Whether the number of that name is the same under every key."""
        return self.settled > 0 and KeyedDraws("settled").uniform(*names) < self.settled

    def normal(self, *names: object) -> float:
        """Of mean zero and variance one."""
        return _NORMAL.inv_cdf(self.uniform(*names))

    def choose(self, among: Sequence[_T], *names: object) -> _T:
        """One of them, each as likely."""
        return among[int(self.uniform(*names) * len(among))]

    def shuffled(self, items: Sequence[_T], *names: object) -> list[_T]:
        """All of them, in an order of the key's own."""
        order = sorted(range(len(items)), key=lambda place: self.uniform(*names, place))
        return [items[place] for place in order]
