"""How a text is written, whatever it is about: fourteen numbers."""

import math
import re
from collections import Counter

import numpy as np
from jaxtyping import Float

STYLE_FEATURES = (
    "log_words",
    "log_words_per_sentence",
    "mean_word_length",
    "comma_rate",
    "semicolon_colon_dash_rate",
    "log_list_items",
    "log_bold_marks",
    "first_person_rate",
    "second_person_rate",
    "questions_per_sentence",
    "log_newlines",
    "distinct_per_root_word",
    "apostrophe_rate",
    "article_and_of_rate",
)
"""What the entries of `style_features` are called, in order."""

_LONGEST = 40
_WORD = re.compile(r"\w+(?:['’-]\w+)*")
# One character, then what closes it: a run of stops ends one sentence and is looked at once.
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]*_]*+(?=\s|$)|[。！？।؟]")
_LIST_ITEM = re.compile(r"^[ \t]{0,12}(?:[-*+•–]|\d{1,3}[.)])[ \t]+(?=\S)", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]++\*\*|__[^_\n]++__")
_FIRST_PERSON = frozenset(
    {"i", "me", "my", "mine", "myself", "we", "us", "our", "ours", "ourselves"}
)
_SECOND_PERSON = frozenset({"you", "your", "yours", "yourself", "yourselves"})
_ARTICLES_AND_OF = frozenset({"a", "an", "the", "of"})


def style_features(text: str) -> Float[np.ndarray, " 14"]:
    """The fourteen numbers of `STYLE_FEATURES`; all finite, also for an empty text.

    `log_x` is ln(1 + x). A rate is a count over the number of words, `questions_per_sentence` the
    question marks over the number of sentences, `distinct_per_root_word` the distinct words over
    the root of the number of words. Both numbers count as at least one where they divide. A word of
    more than 40 characters counts as 40 in `mean_word_length`. Pronouns and articles are English.

    Standardise them on replies of a reference, never on the conversation that is looked at.
    """
    words = _WORD.findall(text.lower())
    counts = Counter(words)
    count = max(len(words), 1)
    sentences = max(sum(1 for _ in _SENTENCE_END.finditer(text)), 1)
    values = (
        math.log1p(len(words)),
        math.log1p(len(words) / sentences),
        sum(min(len(word), _LONGEST) * times for word, times in counts.items()) / count,
        _occurrences(text, ",，、") / count,
        _occurrences(text, ";:—") / count,
        math.log1p(sum(1 for _ in _LIST_ITEM.finditer(text))),
        math.log1p(sum(1 for _ in _BOLD.finditer(text))),
        _share(counts, _FIRST_PERSON) / count,
        _share(counts, _SECOND_PERSON) / count,
        _occurrences(text, "?？") / sentences,
        math.log1p(text.count("\n")),
        len(counts) / math.sqrt(count),
        _occurrences(text, "'’") / count,
        sum(counts[word] for word in _ARTICLES_AND_OF) / count,
    )
    return np.array(values)


def _occurrences(text: str, characters: str) -> int:
    return sum(text.count(character) for character in characters)


def _share(counts: Counter[str], pronouns: frozenset[str]) -> int:
    """How many words are one of the pronouns, also contracted: "I'm" is first person."""
    return sum(
        times for word, times in counts.items() if re.split("['’]", word, maxsplit=1)[0] in pronouns
    )
