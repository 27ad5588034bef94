"""A user's text, cut into sentences, and which of them state something."""

import re
import unicodedata

_END = re.compile(r"(?<![.!?…])[.!?…]++[\"”’)\]]*+(?=\s|$)")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"“])(?:e\.g|i\.e|etc|dr|mr|mrs|ms|no|approx|vs|st|prof|fig|a\.m|p\.m|[a-z])\.$",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"""(?:(?:and|so|but|ok|okay|well|please|also|then)[\s,]+)*(?:
        (?:what|who|whom|where|which|how|why|when)(?:'s|’s|\s+(?:\w+\s+){0,2}?
            (?:is|are|was|were|do|does|did|can|could|should|would|will|has|have|am)\b(?!,))
      | (?:is|are|was|were|do|does|did|can|could|will|would|should|has|have|am)\s+
            (?:i|you|we|he|she|it|they|the|my|our|your|there|this|that|anyone|any)\b
      | (?:tell|remind|give|show)\s+me\b )""",
    re.IGNORECASE | re.VERBOSE,
)
_TAGGED = re.compile(r"(?<!\w)<(\w[\w-]*)(?:\s[^<>]*)?>.*?(?:</\1\s*>|\Z)", re.DOTALL)
_FENCE = re.compile(r"\s*(```|~~~)")
_QUOTED = re.compile(r'"[^"\n]*"|“[^“”\n]*”|«[^«»\n]*»')
QUOTATION = "\ufffc"
"""Stands for a quotation that was taken out."""
_LONGEST_NAME = 8
"""Words. A longer quotation, or one with a sentence's end in it, is somebody's words, no name."""


def split_sentences(text: str) -> tuple[str, ...]:
    """The sentences of `text`, in order, each on one line with single spaces and plain apostrophes.

    A sentence ends at a full stop, question or exclamation mark before white space, and at the end
    of a line. Full stops of common abbreviations and initials end none before a small letter.
    """
    found: list[str] = []
    for line in unicodedata.normalize("NFC", text).replace("’", "'").splitlines():
        start = 0
        for end in _END.finditer(line):
            # The longest abbreviation is short, so that long lines take no longer in proportion.
            before = line[max(start, end.end() - 12) : end.end()]
            following = line[end.end() : end.end() + 3].lstrip()[:1]
            if following and not following.isupper() and _ABBREVIATION.search(before):
                continue
            found.append(line[start : end.end()])
            start = end.end()
        found.append(line[start:])
    return tuple(sentence for each in found if (sentence := " ".join(each.split())))


def is_question(sentence: str) -> bool:
    """Whether a sentence asks: by its mark, or, without one, by how it begins."""
    return sentence.rstrip('"”’)]! ').endswith("?") or _ASKS.match(sentence) is not None


def own_words(text: str) -> str:
    """`text` without what it quotes: fenced code, `<tagged>` parts, lines after `>`, quotations.

    What is left is the user's own claim. A quotation of a few words, such as a name, stays; a
    longer one is `QUOTATION`. A fence or a tag without an end takes all that follows.
    """
    lines: list[str] = []
    fence = None
    for line in _TAGGED.sub("\n", text).splitlines():
        mark = _FENCE.match(line)
        if fence is not None:
            fence = None if mark is not None and mark[1] == fence else fence
        elif mark is not None:
            fence = mark[1]
        elif not line.lstrip().startswith(">"):
            lines.append(line)
    return _QUOTED.sub(
        lambda found: found[0] if _is_name(found[0][1:-1]) else QUOTATION, "\n".join(lines)
    )


def _is_name(quotation: str) -> bool:
    return len(quotation.split()) <= _LONGEST_NAME and not _END.search(quotation)
