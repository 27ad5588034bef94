"""Finding a value in a reply, and hearing that it declines."""

import functools
import re

# fmt: off
_NUMBERS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14,
    "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20,
}
# fmt: on
_NUMBER_WORD = re.compile(rf"\b(?:{'|'.join(_NUMBERS)})\b")
_THOUSANDS = re.compile(r"(?<=\d)[,' ](?=\d{3}(?!\d))")
_SAID = (
    "(?:known|given|told|said|mentioned|stated|agreed|settled|recorded|decided|provided|specified)"
)
_DO = "(?:say|tell|help|give|share|provide|do|answer|confirm|disclose|reveal|write|send)"
_DECLINES = re.compile(
    r"\b(?:"
    + "|".join(
        (
            r"(?:do|does|did)(?: not|n't) (?:yet )?(?:know|have|recall|remember)",
            r"(?:does|did)(?: not|n't) (?:say|mention|tell)",
            rf"(?:is|was|are|were|has|have)(?: not|n't) (?:yet )?(?:been )?{_SAID}",
            rf"(?:not|never) (?:yet )?(?:been )?{_SAID}",
            rf"(?:can|could|will|may|must|shall|would)(?: ?not|n't) {_DO}",
            rf"(?:can't|won't|shan't|unable to|refuse to|decline to) {_DO}",
            r"(?:no|without) (?:record|mention|information|note|way of knowing)",
            rf"no \w+(?: \w+){{0,3}} (?:is|was|were|has been|have been) {_SAID}",
            r"have no \w+ (?:of|about|for|on)",
            r"not aware of",
        )
    )
    + r")\b"
)


def comparable(text: str) -> str:
    """The text in lower case and single spaces, numbers up to twenty and thousands as digits."""
    joined = _THOUSANDS.sub("", _spaced(text))
    return _NUMBER_WORD.sub(lambda found: str(_NUMBERS[found[0]]), joined)


def stands_in(value: str, text: str) -> bool:
    """Whether a value is in a `comparable` text, not as a part of a longer word or number."""
    return _word(value).search(text) is not None


def declines(text: str) -> bool:
    """Whether a text says, in one of a list of English phrases, that it cannot or does not know."""
    return _DECLINES.search(_spaced(text)) is not None


@functools.lru_cache(maxsize=1024)
def _word(value: str) -> re.Pattern[str]:
    value = comparable(value)
    before = r"(?<!\w)(?<!\d[.,])" if re.match(r"\w", value) else ""
    after = r"(?!\w)(?![.,]\d)" if re.search(r"\w$", value) else ""
    return re.compile(before + re.escape(value) + after)


def _spaced(text: str) -> str:
    return " ".join(text.lower().replace("’", "'").split())
