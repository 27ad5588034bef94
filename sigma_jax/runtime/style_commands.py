"""Commands about style: that a user asks for another way of writing, and takes it back."""

import re
from collections.abc import Sequence
from typing import NamedTuple

_LOOKED_AT = 4000
"""Characters of a long text: half of them from its beginning, half from its end."""
_LASTING = 0.8
"""The weight from which a command holds for more than the next reply."""


def _any(words: str) -> str:
    """A pattern of any of `words`, in which an underscore is a space."""
    return f"(?:{'|'.join(words.split()).replace('_', ' ')})"


_LEAD = (
    "(?:"
    + _any(
        "please ok okay so and but now then also well hey great thanks thank_you alright just only "
        "actually instead anyway always never no_really from_now_on from_here_on going_forward "
        "this_time until_then for_this_(?:one|answer|reply) for_the_rest_of_(?:this|our|the)_\\w+ "
        "(?:can|could|will|would)_you would_you_mind kindly you_(?:can|should|must|may|need_to) "
        "i(?:'d|_would)_(?:like|love|prefer)(?:_you_to)? i_(?:want|need)_you_to let's try_to "
        "let_us don't do_not it's_time_to (?:start|begin)(?=_\\w+ing\\b)"
    )
    + r"\b[\s,:!-]*)*"
)
"""What may stand before a command without changing what it is."""
_SPEAK = _any(
    "(?:talk|speak|respond|sound|act|answer)(?:ing)? (?:writ|narrat|communicat|behav)(?:e|ing) "
    "reply(?:ing)? chat explain(?:_\\w+)? say_(?:it|that|this) put_(?:it|that) address_me "
    "tell_(?:it|me) phrase_(?:it|that|this|everything|\\w+_\\w+) "
    "give_me_(?:it|that|everything|\\w+_\\w+) go_on"
)
_FORMAL = _any(
    "(?:in)?formal(?:ly)? casual(?:ly)? concise(?:ly)? terse(?:ly)? verbose(?:ly)? playful(?:ly)? "
    "serious(?:ly)? blunt(?:ly)? direct(?:ly)? polite(?:ly)? sarcastic(?:ally)? poetic(?:ally)? "
    "dramatic(?:ally)? academic(?:ally)? technical(?:ly)? enthusiastic(?:ally)? cheerful(?:ly)? "
    "laconic(?:ally)? professional(?:ly)? conversational(?:ly)? whimsical(?:ly)? humorous(?:ly)? "
    "mysterious(?:ly)? detailed wordy chatty witty archaic flowery energetic brief(?:er|ly)? "
    "short(?:er)? long(?:er)? friendl(?:y|ier) warm(?:er)? cold(?:er)? rude(?:r|ly)? "
    "funn(?:y|ier) simpl(?:e|er|y) plain(?:er|ly)? slow(?:er|ly)? loud(?:er|ly)? snappier lighter "
    "looser stricter crisp(?:er)?"
)
_COUNTED = "(?:sentence|word|paragraph|line|answer|repl|response|message)(?:s|y|ies)?"
_FORM = _any(
    "rhymes? rhyming verses? haikus? limericks? poems? poetry couplets? prose bullets? "
    "bullet_points? bullet_lists? lists? tables? emojis? emoticons? exclamation_marks? "
    "exclamation_points? (?:all_)?caps capital(?:s|_letters) (?:upper|lower)_?case slang jargon "
    "metaphors? contractions headings? bold markdown adjectives filler questions riddles dialect "
    f"\\w+_{_COUNTED}(?:_or_(?:less|fewer))? "
    "(?:the_)?(?:first|second|third)_person (?:the_)?(?:present|past)_tense "
    "analogies images pictures comparisons "
    "(?:plain|simple|old|shakespearean|pirate|baby|legal)_(?:english|language|speak|talk) "
    "an?_(?:\\w+_)?(?:tone|style|voice|accent|manner|register|dialect) "
    "(?:the|an?)_(?:\\w+_)?(?:style|voice|manner|tone|spirit|words)_of "
    "french german spanish italian latin japanese dutch portuguese chinese"
)
_DEGREE = _any("(?:an?_(?:bit|little|lot)|much|far|even|more|less|really|very|extremely|too)")
_MANNER = (
    r"(?:like (?:a|an|the|you|i|in|\w+)\b|as (?:in )?(?:a|an|if|though)\b"
    rf"|(?:only |just )?(?:in|with|without|using) (?:\w+ )?{_FORM}\b|(?:{_DEGREE} )*{_FORMAL}\b)"
)
_REPLIES = (
    "(?:(?:your|the|all|every|each) )?(?:next )?"
    f"(?:{_COUNTED}|it|things|everything|tone|style|language|voice)"
)
_PART = _any("role part persona character voice tone style accent manner")
_SCENE = _any(
    "act accent persona voice style role rhymes? rhyming talk speak thing game bit character tone "
    "impression mode gimmick role-?play"
)

_STARTS = tuple(
    (weight, re.compile(f"{_LEAD}{pattern}", re.IGNORECASE))
    for weight, pattern in (
        (0.9, rf"{_SPEAK}(?: to me| back| me| this| that| everything| it| only| all)* {_MANNER}"),
        (0.9, r"(?:pretend|imagine) (?:to be|you(?:'re| are| were))\b"),
        (0.9, r"(?:you are|you're) now an?\b"),
        (0.9, rf"(?:play|take|assume|adopt|slip into) (?:on )?(?:the |an? )(?:\w+ ){{0,2}}{_PART}"),
        (
            0.9,
            rf"(?:switch|change|move|shift)(?:ing)? (?:your {_PART} )?(?:in)?to (?:\w+ )?"
            rf"(?:{_FORM}|{_FORMAL}|\w+ (?:mode|style|tone|voice))\b",
        ),
        (0.8, rf"(?:be|being) (?:{_DEGREE} )*{_FORMAL}\b"),
        (
            0.8,
            rf"(?:keep|make) {_REPLIES}(?: under| to| below| within| as)?(?: {_DEGREE})* "
            rf"(?:{_FORMAL}|(?:\w+ )?{_FORM}|\d+ \w+)\b",
        ),
        (
            0.8,
            "(?:use|using|stick to|limit yourself to|avoid|avoiding|stop using|drop|skip|cut|add"
            "|leave out|no|less|more|fewer|include|put)"
            "(?! the (?:lists?|tables?|poems?|first|second|third)\\b)"
            "(?: only| more| fewer| less| no| any| all"
            rf"| the| some| lots of| plenty of| a lot of| so many| so much| out)* {_FORM}\b",
        ),
        (
            0.8,
            r"(?:rhyme|whisper|shout|curse|swear|loosen up|lighten up|tone it down"
            r"|dial (?:it|the \w+) (?:down|up|back))\b(?! (?:is|was|are))",
        ),
        (0.8, rf"(?:{_DEGREE} )*(?:more|less) {_FORMAL}(?:,? please| now)?[.!]*$"),
        (
            0.8,
            rf"{_any('shorter longer simpler briefer warmer funnier plainer')}(?:,? please)?[.!]*$",
        ),
        (
            0.8,
            "(?:end|start|begin|finish|sign|open|close) (?:every|each|all|your) (?:\\w+ )?"
            f"{_COUNTED}",
        ),
        (0.8, r"(?:call me|refer to me as|refer to yourself)\b"),
        (
            0.5,
            "(?:describe|summari[sz]e|rewrite|retell|rephrase|explain|give|tell|say|translate|write"
            r"|answer)\b[^,]{0,60} (?:like (?:a|an|i'm|i am|you)\b|as (?:if|though)\b|as an? haiku"
            rf"|in (?:\w+ )?{_FORM}\b|to an? (?:\w+[- ])*(?:child|kid|year[- ]old|beginner))",
        ),
    )
)
_USUAL = (
    "(?:your |the |my |our |how you |what you )?"
    + _any("usual normal(?:ly)? regular ordinary old original default previous standard typical")
    + r"\b"
)
_AS_BEFORE = (
    r"(?:normally|like yourself|(?:as|like|how) (?:you (?:normally|usually|did|used to|were|wrote"
    r"|spoke|talked|answered)|usual|before|always))"
)
_BACK = "(?:(?:go|come|get|switch|change|return|revert|move|snap)(?:ing)? (?:back )?|back )"
_WAY = _any(
    "style tone voice self way manner language register english prose mode writing speaking"
)
_DOING = _any(
    "(?:doing|with)_(?:that|this|it|all_that) that it this now talking speaking writing answering "
    "responding replying rhyming acting pretending shouting whispering role-?playing being_\\w+"
)
_STOP = _any(
    "stop quit cease drop end lose ditch leave forget(?:_about)? (?:that's_)?enough(?:_with|_of)?"
)
_ENDS = tuple(
    re.compile(f"{_LEAD}{pattern}", re.IGNORECASE)
    for pattern in (
        rf"{_BACK}?(?:to )?{_USUAL}(?: {_WAY})?(?: again| now|,? please)?[.!]*$",
        rf"{_BACK}to (?:{_USUAL}(?: {_WAY}\b| again\b|[.,!]|$)|{_AS_BEFORE}"
        "|being (?:yourself|normal))",
        rf"(?:{_SPEAK}|go on|be)(?: to me)? (?:{_AS_BEFORE}|{_USUAL} again)",
        r"be (?:yourself|normal)\b",
        rf"{_STOP} {_DOING}\b",
        rf"{_STOP} (?:the|that|this|your|all (?:the|this|that)) (?:\w+ ){{0,2}}{_SCENE}\b",
        r"(?:that's )?enough(?: of)?(?: (?:the|this|that))? (?:\w+ )?"
        r"(?:pirate\w*|rhym\w+|verse|poetry|haikus?|role-?play\w*|speak|talk)\b",
        r"(?:you )?(?:no longer need to|(?:don't|do not) (?:have|need) to|needn't) "
        rf"(?:{_SPEAK}|rhyme|do that)\b",
        rf"(?:resume|restore|bring back|use|adopt) {_USUAL} {_WAY}\b",
        rf"i (?:want|miss|prefer(?:red)?|liked?) {_USUAL} {_WAY}(?: back| again|[.!]|$)",
    )
)
_SENTENCE = re.compile(r"[^.!?;\n]+[.!?;]*")
_ONCE = re.compile(
    r"\b(?:just (?:this )?once|(?:for|in) (?:this|your next|the next) (?:one|answer|reply|response"
    r"|question|message)|the next (?:answer|reply|response)|only this (?:time|once)|this time)\b",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"(?:who|what|which|where|why|how|is|are|was|were|do you|does|did|has|have|should"
    r"|may)\b",
    re.IGNORECASE,
)


class StyleCommand(NamedTuple):
    """How surely a text commands a style, and for how long."""

    weight: float
    """In [0, 1]; 0 where it takes a commanded style back."""
    lasting: bool
    """For the replies from here on; otherwise for the next one."""
    ends: bool = False
    """It takes the commanded style back."""


class StyleGate(NamedTuple):
    """How much the next reply, and those after it, are under a commanded style; both in [0, 1]."""

    now: float = 0.0
    lasting: float = 0.0


def style_command(text: str) -> StyleCommand | None:
    """The command about style in `text`, or None.

    A command stands at the beginning of a clause ("Please talk like a pirate", "more formal,
    please"); what is asked or told about styles is none. Of several the last decides. Of a long
    text the first and the last 2,000 characters are looked at. The rules are for English.
    """
    half = _LOOKED_AT // 2
    shown = text if len(text) <= _LOOKED_AT else f"{text[:half]}\n{text[-half:]}"
    found = None
    for match in _SENTENCE.finditer(shown.replace("’", "'")):
        sentence = match[0].strip(" \t\"'“”*>-()")
        if not _ASKS.match(sentence):
            found = _of_sentence(sentence) or found
    return found


def style_command_weight(text: str) -> float:
    """How surely `text` commands a style, in [0, 1]; 0 also where it takes one back."""
    command = style_command(text)
    return 0.0 if command is None else command.weight


def style_gate(
    text: str, before: StyleGate = StyleGate(), *, kept_anyway: Sequence[str] = ()
) -> StyleGate:
    """The gate for the reply to `text`, after the gate for the reply before.

    A lasting command holds until a later one or until it is taken back; one for the next reply
    leaves what held before as it was.

    **Arguments:** `kept_anyway`, the words of an identity's constraints: a text with one of them in
    it asks for no other style.
    """
    command = None if any(words in text for words in kept_anyway) else style_command(text)
    if command is None:
        return StyleGate(before.lasting, before.lasting)
    if command.lasting or command.ends:
        return StyleGate(command.weight, command.weight)
    return StyleGate(max(command.weight, before.lasting), before.lasting)


def _of_sentence(sentence: str) -> StyleCommand | None:
    """The command that the sentence is, or else the first that follows a comma in it."""
    lasts = not _ONCE.search(sentence)
    clauses = [sentence, *(part.strip() for part in sentence.split(",")[1:])]
    for clause in clauses:
        if any(pattern.match(clause) for pattern in _ENDS):
            return StyleCommand(0.0, lasting=True, ends=True)
        weights = [weight for weight, pattern in _STARTS if pattern.match(clause)]
        if weights:
            return StyleCommand(max(weights), lasting=lasts and max(weights) >= _LASTING)
    return None
