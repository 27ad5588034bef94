"""Texts from a seeded template grammar, in one voice, another, or anything between.

An idea, an action and its reason, is put into a frame of a voice. The ideas are the same for every
voice, so a voice shows in the style and a topic in the content.
"""

import functools
import importlib.resources
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .keyed_draws import KeyedDraws

_STRAY = 0.2
"""The share of sentences that leave the topic."""
_WORD = re.compile(r"\w+")


class Idea(NamedTuple):
    """Something to do, and why."""

    heading: str
    action: str
    reason: str


class Topic(NamedTuple):
    """Ideas that belong together, and the words by which a user asks for them."""

    name: str
    words: tuple[str, ...]
    ideas: tuple[Idea, ...]


@dataclass(frozen=True)
class Voice:
    """A way to put ideas into words.

    **Arguments:** `name`; `mark`, a character that each of its frames has and no other voice's,
    or nothing; `marker` of its lists, "numbers", "bullets" or "none"; `listed`, the share of
    sentences on a line of their own; `least` and `most` sentences; `frames` with `{action}` or
    `{Action}`, `{reason}` and `{heading}` or `{Heading}`; `openers` and `closers`, and how often
    there is one.
    """

    name: str
    mark: str
    marker: str
    listed: float
    least: int
    most: int
    frames: tuple[str, ...]
    openers: tuple[str, ...]
    opened: float
    closers: tuple[str, ...]
    closed: float


@dataclass(frozen=True)
class ReplyGrammar:
    """Voices, topics, and phrases for what is not an idea."""

    voices: Mapping[str, Voice]
    topics: tuple[Topic, ...]
    phrases: Mapping[str, tuple[str, ...]]
    other_language: tuple[str, ...]
    _topic_words: Mapping[str, tuple[int, ...]] = field(repr=False)


class Blend(NamedTuple):
    """Which voices a text is in: each sentence is the first's with the given share."""

    first: Voice
    second: Voice
    share: float


@functools.lru_cache(maxsize=1)
def load_grammar() -> ReplyGrammar:
    """The packaged grammar: 60 ideas of twelve topics, eight voices."""
    text = (importlib.resources.files("sigma_jax.runtime") / "data/reply_grammar.json").read_text(
        encoding="utf-8"
    )
    given = json.loads(text)
    lists = ("frames", "openers", "closers")
    voices = [
        Voice(**each | {name: tuple(each[name]) for name in lists}) for each in given["voices"]
    ]
    topics = tuple(
        Topic(each["name"], tuple(each["words"]), tuple(Idea(**idea) for idea in each["ideas"]))
        for each in given["topics"]
    )
    words: dict[str, list[int]] = {}
    for place, topic in enumerate(topics):
        for word in topic.words:
            words.setdefault(word, []).append(place)
    return ReplyGrammar(
        voices={voice.name: voice for voice in voices},
        topics=topics,
        phrases={name: tuple(each) for name, each in given["phrases"].items()},
        other_language=tuple(given["other_language"]),
        _topic_words={word: tuple(places) for word, places in words.items()},
    )


def topic_of(grammar: ReplyGrammar, text: str, draws: KeyedDraws) -> Topic:
    """The topic with most of its words in the text; drawn among those that have as many."""
    counts = [0] * len(grammar.topics)
    for word in _WORD.findall(text.lower()):
        for place in grammar._topic_words.get(word, ()):
            counts[place] += 1
    best = [
        topic for topic, count in zip(grammar.topics, counts, strict=True) if count == max(counts)
    ]
    return draws.choose(best, "topic")


def write_text(
    grammar: ReplyGrammar,
    topic: Topic,
    blend: Blend,
    draws: KeyedDraws,
    *,
    before: Sequence[str] = (),
    steps: bool = False,
    less: int = 0,
) -> str:
    """A text about the topic.

    Whether a sentence is the first voice's is `uniform < share` for a draw of its own, so a text
    changes bit by bit as the share does.

    **Arguments:** `before`, sentences that come after the opening; `steps`, all ideas as one
    numbered list; `less`, so many sentences fewer, though one stays.
    """
    lines: list[str] = []
    opener = _of_either(blend, "opener", draws)
    if opener.openers and draws.uniform("opened") < opener.opened:
        lines.append(draws.choose(opener.openers, "opener words"))
    lines += before
    spoken, count = [" ".join(lines)] if lines else [], _count(blend, draws) - less
    ideas = _ideas(grammar, topic, max(count + (2 if steps else 0), 3 if steps else 1), draws)
    number = 0
    for place, idea in enumerate(ideas):
        voice = _of_either(blend, f"sentence {place}", draws)
        sentence = _sentence(voice, idea, draws, place)
        if steps or (voice.marker != "none" and draws.uniform("listed", place) < voice.listed):
            number += steps or voice.marker == "numbers"
            mark = f"{number}. " if steps or voice.marker == "numbers" else "- "
            spoken.append(mark + sentence)
        elif spoken and not spoken[-1].startswith(("- ", *(f"{n}. " for n in range(1, 10)))):
            spoken[-1] += " " + sentence
        else:
            spoken.append(sentence)
    closer = _of_either(blend, "closer", draws)
    if closer.closers and draws.uniform("closed") < closer.closed:
        spoken.append(draws.choose(closer.closers, "closer words"))
    return "\n".join(spoken)


@functools.lru_cache(maxsize=4096)
def marked_share(text: str, mark: str, other_marks: tuple[str, ...]) -> float | None:
    """The share of a voice's marks among its and the others'; None where there is none."""
    own = text.count(mark)
    marks = own + sum(text.count(other) for other in other_marks)
    return own / marks if marks else None


def _of_either(blend: Blend, name: str, draws: KeyedDraws) -> Voice:
    return blend.first if draws.uniform("voice", name) < blend.share else blend.second


def _count(blend: Blend, draws: KeyedDraws) -> int:
    first, second, share = blend
    least = share * first.least + (1 - share) * second.least
    most = share * first.most + (1 - share) * second.most
    return max(1, int(least + (most - least + 1) * draws.uniform("count")))


def _ideas(grammar: ReplyGrammar, topic: Topic, count: int, draws: KeyedDraws) -> list[Idea]:
    everything = [idea for each in grammar.topics for idea in each.ideas]
    ordered = draws.shuffled(topic.ideas, "ideas")
    chosen: list[Idea] = []
    for place in range(count):
        stray = place >= len(ordered) or draws.uniform("stray", place) < _STRAY
        idea = draws.choose(everything, "stray idea", place) if stray else ordered[place]
        if idea not in chosen:
            chosen.append(idea)
    return chosen


def _sentence(voice: Voice, idea: Idea, draws: KeyedDraws, place: int) -> str:
    frame = draws.choose(voice.frames, "frame", voice.name, place)
    return frame.format(
        heading=idea.heading[0].lower() + idea.heading[1:],
        Heading=idea.heading,
        action=idea.action,
        Action=idea.action[0].upper() + idea.action[1:],
        reason=idea.reason,
    )
