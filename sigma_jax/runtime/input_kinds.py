"""What a user's words are: a statement, a question, a task, or a command about style."""

import enum
import re
from collections.abc import Iterator

from .style_commands import style_command

_LOOKED_AT = 4000
"""Characters of a long text: half of them from its beginning, half from its end."""
_SENTENCE = re.compile(r"[^.!?？。！\n]+[.!?？。！]*")
_LEAD = (
    r"(?:(?:please|ok(?:ay)?|so|and|but|now|then|next|also|well|hi|hello|hey|great|thanks|thank you"
    r"|good|alright|first|finally|actually|by the way)\b[\s,:!-]*)*"
)
_VERBS = (
    "add adjust analy[sz]e answer apply arrange build calculate change check clean collect "
    "combine compare complete compose compute continue convert copy correct count create debug "
    "define delete describe design do(?!_(?:i|we|you|they)\\b) document draft draw edit estimate "
    "evaluate expand explain extract fill find finish fix format generate give go group help "
    "identify implement improve include install insert invent keep let's let(?!_me\\b) list look "
    "make merge move name note optimi[sz]e order organi[sz]e outline output paraphrase pick plan "
    "prepare print produce proofread propose prove provide put quote rank rate read recommend "
    "refactor remember remind remove rename repeat rephrase replace report respond return review "
    "revise rewrite run save schedule select send set show shorten simplify sketch solve sort "
    "split start state suggest summari[sz]e swap take tell test think translate try turn update "
    "use verify walk write"
)
_VERB = f"(?:{'|'.join(_VERBS.split()).replace('_', ' ')})"
_TASK = re.compile(
    rf"^{_LEAD}(?:{_VERB}\b(?!:|\s(?:is|are|was|were|has|will)\b)"
    rf"|(?:can|could|would|will) you (?:please |kindly |now |also |just )*{_VERB}\b"
    r"|i(?:'d| would) like you to\b|i (?:want|need) you to\b|your (?:task|job) is to\b)",
    re.IGNORECASE,
)
_QUESTION = re.compile(
    rf"^{_LEAD}(?:(?:who|whom|whose|what|which|when|where|why|how)(?:'s|'re|'d)?\b"
    r"(?! an? [^?]*!)|(?:is|are|was|were|do|does|did|has|have|had|can|could|should|would|will"
    r"|shall|may|might|am|isn't|aren't|don't|doesn't|didn't|can't|couldn't|shouldn't|won't)"
    r" (?:i|you|he|she|it|we|they|the|a|an|this|that|these|those|there|my|your|our|any|anyone"
    r"|someone)\b)",
    re.IGNORECASE,
)
_REFERS = re.compile(
    r"^(?:when|where|what|how|who|which|whatever|whoever)\b[^?]*,|^(?:have|had) (?:a|an|the)\b",
    re.IGNORECASE,
)


class InputKind(enum.Enum):
    """What a user's words are."""

    STATEMENT = "statement"
    """They say something, which may be remembered."""
    QUESTION = "question"
    """They ask for something to be said."""
    STYLE_COMMAND = "style command"
    """They say how replies are to be written, or that they are to be as usual again."""
    TASK = "task"
    """They ask for something to be done."""


def input_kind(text: str) -> InputKind:
    """What the words are, by plain rules of English.

    A text with a command about style is that. Otherwise the last sentence that asks or commands
    decides, and where none does it is a statement. In other languages a question is known by its
    mark alone. Of a long text the first and the last 2,000 characters are looked at.
    """
    if style_command(text) is not None:
        return InputKind.STYLE_COMMAND
    half = _LOOKED_AT // 2
    shown = text if len(text) <= _LOOKED_AT else f"{text[:half]}\n{text[-half:]}"
    kinds = [_of_sentence(sentence) for sentence in _sentences(shown)]
    asking = [kind for kind in kinds if kind is not InputKind.STATEMENT]
    return asking[-1] if asking else InputKind.STATEMENT


def _sentences(text: str) -> Iterator[str]:
    for match in _SENTENCE.finditer(text.replace("’", "'")):
        sentence = match[0].strip(" \t\"'“”*>-()")
        if sentence:
            yield sentence


def _of_sentence(sentence: str) -> InputKind:
    if _TASK.match(sentence):
        return InputKind.TASK
    asks = _QUESTION.match(sentence) and not _REFERS.match(sentence)
    if sentence.rstrip("\"'”)").endswith(("?", "？", "؟")) or asks:
        return InputKind.QUESTION
    return InputKind.STATEMENT
