"""Rubrics: which words an answer must hold to count as right.

A rubric is keys separated by commas, all of them required; a key is one text, or several separated
by `|`, of which one will do. Source: Σ₀-K1, acceptance gate A.
"""

import re

Rubric = tuple[tuple[str, ...], ...]
"""The alternatives of every key."""

_GROUPED = re.compile(r"(?<=\d)[,_](?=\d{3}(?!\d))")
"""What stands between the thousands of a number."""
_BEGINS_WITH_NUMBER = re.compile(r"[-+]?\.?\d")


def parse_rubric(rubric: str) -> Rubric:
    """The keys of a rubric, each a tuple of its alternatives, without white space around them.

    **Raises** `ValueError` for a rubric without keys, and an empty key or alternative.
    """
    keys = tuple(tuple(text.strip() for text in key.split("|")) for key in rubric.split(","))
    if not all(text for alternatives in keys for text in alternatives):
        raise ValueError(
            "rubric must be keys separated by commas, alternatives by |, none of them empty; got "
            f"{rubric!r}."
        )
    return keys


def meets(rubric: str, answer: str) -> bool:
    """Whether an answer holds every key of a rubric, in one of its alternatives each.

    Upper and lower case are one, as is white space of any kind and length. A key is found inside
    words too ("flatten" in "flattens"), but a number only where it stands as a number: 4 is not in
    40, 0.4, 4.5, −4, x4 or 4e3, though it is in "4.", "4 %" and "3-4". That holds for either end of
    any key that is a digit. Thousands may be grouped (20910 is in "20,910" and "20_910"), so that
    numbers in a list need a space between them.

    **Raises** `ValueError` as `parse_rubric` does.
    """
    text = f" {_plain(answer)} "
    return all(
        any(_pattern(_plain(key)).search(text) for key in alternatives)
        for alternatives in parse_rubric(rubric)
    )


def _plain(text: str) -> str:
    return _GROUPED.sub("", " ".join(text.split())).replace("−", "-").casefold()


def _pattern(key: str) -> re.Pattern[str]:
    before = r"(?<![\w.])(?<!\D-)" if _BEGINS_WITH_NUMBER.match(key) else ""
    after = r"(?![\w⁻])(?!\.\d)" if key[-1].isdigit() else ""
    return re.compile(before + re.escape(key) + after)
