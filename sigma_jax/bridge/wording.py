"""Words as search and extraction compare them."""

import functools
import re
import unicodedata

_STOP_WORDS = (
    "a about all also an and any are as at be been being but by can could did do does doing "
    "each for from give given had has have having here how i if in into is it its itself just "
    "many may me more most much must my no not of off on only or other our out over own "
    "please say should so some such tell than that the their them then there these they this "
    "those to too under up upon us use used very was we were what when where which while who "
    "whom whose why will with would you your"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())
"""English words that say nothing about what a text is about; `terms` leaves them out."""

_SUPERSCRIPT = re.compile("[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_WORD = re.compile(
    r"""(?:(?<![\w.])\.\d+ | \d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)? | \d+(?:\.\d+)*)  # .5  1,024  0.9.2
        (?:[eE][+-]?\d+)? (?:\^[-−]?\d+)? (?!\w)                               # 1e-3  10^-9
      | [A-Z]{1,3}-\d+(?!\w)                                                   # E-01
      | \w+""",
    re.VERBOSE,
)
_PIECE = re.compile(r"[Ͱ-Ͽ]\d*|[A-Z]+(?![a-z])\d*|[A-Z]?[^\W\d_A-ZͰ-Ͽ]+\d*|\d+")
_TENSE = re.compile("(?=.*[aeiouy].*(?:ed|ing)$)(.{3,})(?:ed|ing)")
_DOUBLED = re.compile(r"([bdgmnprt])\1$")
_DERIVED = re.compile("(.{4,}?)(?:ation|ate|ion|ment|ly|er)")
_LONGEST = 30
"""What is longer is no word of English."""
_GREEK = {
    chr(code): unicodedata.name(chr(code)).split()[-1].lower().replace("lamda", "lambda")
    for code in range(ord("α"), ord("ω") + 1)
}


def terms(text: str) -> list[str]:
    """The terms of a text, in order: lower case, stemmed, without stop words.

    An identifier gives itself and its parts (`sigma_model`: sigma_model, sigma, model; `FixedStep`
    likewise); a Greek letter itself and its name; a number stays whole (`0.25`, `1e-3`, and `.5` is
    0.5, `1,024` is 1024). Stems are for comparison and need be no words: "predicted" and
    "predictions" are both predict, "serving" and "server" serv.
    """
    # Compatibility forms (R₀ is R0), but a power stays one: 10⁵ is not 105.
    text = _SUPERSCRIPT.sub(lambda found: f"^{found[0]}", text)
    text = unicodedata.normalize("NFKC", text)
    return [term for match in _WORD.finditer(text) for term in _of_word(match[0])]


@functools.lru_cache(maxsize=2**16)
def _of_word(word: str) -> tuple[str, ...]:
    if word[0].isdigit() or word[0] == ".":
        number = word.replace(",", "").replace("−", "-").lower()
        return (f"0{number}" if number[0] == "." else number,)
    pieces = _PIECE.findall(word)
    whole = [] if len(pieces) == 1 else [word.strip("_")]
    found = [piece.lower() for piece in whole + pieces if piece]
    found += [_GREEK[piece] for piece in found if piece in _GREEK]
    return tuple(dict.fromkeys(_stem(piece) for piece in found if piece not in STOP_WORDS))


def _stem(word: str) -> str:
    """The word without the endings of plurals, tenses and a few derivations.

    Source: the plural is Harman's S stemmer (1991); the rest, far less than Porter's (1980), keeps
    a vowel or four letters in front.
    """
    if len(word) > _LONGEST or not (word.isascii() and word.isalpha()):
        return word
    word = _singular(word)
    if (match := _TENSE.fullmatch(word)) is not None:
        stem = match[1]
        word = stem + "e" if stem.endswith("at") else _DOUBLED.sub(r"\1", stem)
    if (match := _DERIVED.fullmatch(word)) is not None:
        return match[1]
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def _singular(word: str) -> str:
    if len(word) < 4 or not word.endswith("s") or word.endswith(("us", "ss")):
        return word
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if word.endswith(("aes", "ees", "oes")):
        return word
    return word[:-1]
