"""What is wrong with a reply before anything is read in it."""

import enum
import json
import re
from collections import Counter

from .._check import require_in

MOST_BYTES = 256 * 1024
"""Of a reply, in UTF-8, by default."""
_CUT_SHORT = ("length", "max_tokens", "max_output_tokens")
_SAMPLE = 4000
"""Characters looked at from the beginning, the middle and the end of a long reply."""
_FEWEST_WORDS, _FEWEST_LETTERS = 25, 40
"""Of a text of which the language is told."""
_FOREIGN_SCRIPT, _FOREIGN_WORDS, _MOST_NAMES = 0.5, 0.12, 0.5

_VISIBLE = re.compile(r"[^\s\u200b-\u200f\u2060\ufeff\x00-\x1f]")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_FENCED = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1|\Z)", re.MULTILINE | re.DOTALL)
_QUOTED_CODE = re.compile(r"`[^`\n]*`")
_NO_PROSE = frozenset("@/\\_={}<>")
_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile(r"[A-Za-zÀ-ɏḀ-ỿ]")
_SENTENCE = re.compile(r"[.!?]\s")
_LIST_OR_HEADING = re.compile(r"\s*(?:[-*+•–#>|]|\d{1,3}[.)])")
_DANGLING_WORDS = (
    "a an and are because but by for from if into is nor of or our than the their these those to "
    "very was were when which while with your"
)
_DANGLING = frozenset(_DANGLING_WORDS.split())
_ENGLISH_WORDS = (
    "a about after all also an and are as at be because been but by can do for from had has have "
    "he her his how i if in into is it its more my no not of on or our she so than that the their "
    "them then there they this to was we were what when which who will with would you your"
)
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
# Function words of other languages in Latin script, without those that are English words, too.
_OTHERS = {
    language: frozenset(words.split()) - _ENGLISH
    for language, words in {
        "de": "aber als auch auf aus bei das dass dem den der des die ein eine einen für ich ist "
        "mit nicht oder sich sie sind und von werden wie wir zu zum zur",
        "fr": "avec au aux ce cette dans de des du elle en est et il je la le les mais ne nous "
        "ou où par pas plus pour qui que sont sur un une vous",
        "es": "al como con de del el en es esta este la las lo los más para pero por que se ser "
        "sin son su una un uno y ya",
        "it": "al alla anche che come con da dei del della di e ed gli il la le lo ma nel nella "
        "non per più sono su un una",
        "pt": "ao as com como da das de do dos e em é foi mais mas na não nas nos o os ou para "
        "pela pelo por que se seu sua um uma",
        "nl": "aan bij dat de deze die een en er het hij ik je maar met naar niet om ook op te "
        "uit van voor wat wij zijn",
        "sv": "att av de den det en ett för från har inte jag kan med men när och om på som till "
        "var är",
        "da": "af at de den der det en er et fra ikke jeg kan med men og om på som til var vi",
        "pl": "ale co czy dla do i jak jest na nie o od oraz po przez się są to w z za że",
        "cs": "a ale ani byl co jak je jsem jsou k na nebo o od po pro s se si že to v z za",
        "tr": "bir bu çok da daha de değil gibi için ile ama ki ne olan olarak sonra var ve",
        "fi": "että ei hän ja joka kuin mutta myös ne niin oli on se sekä tai tämä vain",
        "hu": "a az azt csak de egy ez hogy is már meg mint nem s és van volt",
        "ro": "a al ale ca care ce cu de din este în la mai nu pe pentru sau și să sunt un",
        "id": "ada adalah akan atau dan dari dengan di ini itu juga karena ke pada saya tidak "
        "untuk yang",
        "vi": "các có cho của đã để được không là một này những trong và với",
    }.items()
}


class ReplyProblem(enum.Enum):
    """Why a reply is not one to go on with."""

    EMPTY = "empty"
    """Nothing in it can be seen."""
    TRUNCATED = "truncated"
    """It breaks off."""
    OVERSIZED = "oversized"
    """It is longer than replies may be."""
    OTHER_LANGUAGE = "other language"
    """It is written in another language than expected."""


def reply_problem(
    text: str,
    *,
    finish_reason: str | None = None,
    expected_language: str | None = "en",
    most_bytes: int = MOST_BYTES,
) -> ReplyProblem | None:
    """The first of the problems that `text` has, in the order of `ReplyProblem`, or None.

    `EMPTY`: white space and invisible characters. `OVERSIZED` comes before `TRUNCATED`.
    `TRUNCATED`: the model says so; or, where it says nothing, a fence of code is not closed, or a
    sentence after others ends with a comma or a word that ends none, such as "the".
    `OTHER_LANGUAGE`: of at least 40 letters more than half are of another script; or of at least 25
    words of prose the function words of another language are at least 12 % and more than twice the
    English ones. Code, JSON, addresses and lists of names pass.

    **Arguments:** `finish_reason` as the model gives it, such as "stop" or "length";
    `expected_language`, "en", or None for any, for instance where a translation was asked for;
    `most_bytes` of the text in UTF-8.

    **Raises** `ValueError` for another language than these, or `most_bytes` below one.
    """
    if expected_language not in ("en", None):
        raise ValueError(f"expected_language must be 'en' or None; got {expected_language!r}.")
    require_in("most_bytes", most_bytes, 1)
    if not _VISIBLE.search(text):
        return ReplyProblem.EMPTY
    if len(text) > most_bytes or len(text.encode("utf-8", "surrogatepass")) > most_bytes:
        return ReplyProblem.OVERSIZED
    if finish_reason in _CUT_SHORT or (finish_reason is None and _breaks_off(text)):
        return ReplyProblem.TRUNCATED
    if expected_language == "en" and _is_foreign(text):
        return ReplyProblem.OTHER_LANGUAGE
    return None


def _breaks_off(text: str) -> bool:
    if sum(1 for _ in _FENCE.finditer(text)) % 2:
        return True
    last = text.rstrip().rsplit("\n", 1)[-1]
    if _LIST_OR_HEADING.match(last) or not _SENTENCE.search(text):
        return False
    words = _WORD.findall(last[-200:])
    ends_in_word = bool(words) and last.endswith(words[-1])
    return last.endswith(",") or (ends_in_word and words[-1] in _DANGLING)


def _is_foreign(text: str) -> bool:
    words = _prose(text)
    letters = "".join(words)
    other_script = sum(1 for letter in letters if not _LATIN.match(letter))
    if len(letters) >= _FEWEST_LETTERS and other_script > _FOREIGN_SCRIPT * len(letters):
        return True
    names = sum(1 for word in words if word[0].isupper())
    if len(words) < _FEWEST_WORDS or names > _MOST_NAMES * len(words) or _is_json(text):
        return False
    counts = Counter(word.lower() for word in words)
    english = _share(counts, _ENGLISH, len(words))
    other = max(_share(counts, function_words, len(words)) for function_words in _OTHERS.values())
    return other >= _FOREIGN_WORDS and other > 2 * english


def _prose(text: str) -> list[str]:
    """The words of a sample of `text` without code, addresses and the like."""
    plain = _QUOTED_CODE.sub(" ", _FENCED.sub(" ", _sample(text)))
    kept = (piece for piece in plain.split() if _NO_PROSE.isdisjoint(piece))
    return _WORD.findall(" ".join(kept))


def _share(counts: Counter[str], words: frozenset[str], total: int) -> float:
    return sum(counts[word] for word in words) / total


def _sample(text: str) -> str:
    if len(text) <= 3 * _SAMPLE:
        return text
    middle = (len(text) - _SAMPLE) // 2
    return "\n".join((text[:_SAMPLE], text[middle : middle + _SAMPLE], text[-_SAMPLE:]))


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
