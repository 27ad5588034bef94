"""Facts out of a user's words, by plain rules: what is stated, and nothing that is asked or quoted.

The rules are for English and prefer to miss a fact rather than to invent one. What they miss is
still a statement in the memory, only without a key by which it could be superseded.
"""

import re
from dataclasses import replace

from .fact_forms import FACT_FORMS, FactForm, old_key
from .facts import Fact, FactKind, fact_key
from .statements import QUOTATION, is_question, own_words, split_sentences

_LONGEST_SENTENCE = 400
"""Characters. What is longer is no plain statement."""
_MOST_SENTENCES = 200
"""Of one text. What is longer is a document, and no more of it is read."""
_MOST_WORDS = 24
"""Of a value."""
_PUNCTUATION = " ,:;.!—-"

_CORRECTS = re.compile(
    r"""(?:actually|correction|no|nope|sorry|wait|update|i\ was\ wrong|i\ made\ a\ mistake
    |i\ misspoke|scratch\ that|my\ mistake|rather|instead|from\ now\ on|changes?\ of\ plans?
    |to\ correct\ myself|(?:it\ )?turns\ out(?:\ that)?|(?:as\ of|starting)\ [^,]{1,30}(?=,)|now
    )(?=[\s,:;.!—-]|$)""",
    re.IGNORECASE | re.VERBOSE,
)
_LEADS = re.compile(
    r"""(?:and|also|so|ok|okay|well|hi|hello|hey|thanks|thank\ you|by\ the\ way|btw|fyi|just
    |for\ (?:your\ information|context|the\ record|reference)|one\ more\ thing|in\ addition|first
    |second|finally|next|oh|then|but|please)(?=[\s,:;.!—-]|$)""",
    re.IGNORECASE | re.VERBOSE,
)
_REMEMBERS = re.compile(
    r"(?:remember|note|keep in mind|bear in mind|don't forget|do not forget)"
    r"(?:\s+that\b|\s*[:,]|(?=\s+(?:my|our|the|i|we)\b))\s*",
    re.IGNORECASE,
)
_SUPPOSES = re.compile(
    r"""^(?:since|because|given|as|when|while|whenever|say|let's|had|were|in\ case|although|though
      |whether|once|until|before|after|he|she|they|what|who|how)\b
    | \b(?:if|unless|suppose|supposing|assume|assuming|pretend|imagine|hypothetically|maybe|perhaps
      |might|may\ be|may\ have|could|would|i'd|i\ guess|i\ think|i\ thought|i\ believe|i\ wonder
      |probably|possibly|not\ sure|for\ example|for\ instance|e\.g\.|says?|said|claims?|claimed|told
      |thinks?|thought|wrote|writes|according\ to|i\ heard|apparently|allegedly|supposedly
      |rumou?r)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_NEXT_CLAUSE = re.compile(
    r"\s*;\s*|,?\s+(?:and|but)\s+(?=(?:my|our|the|i|we|call|it|work|live|prefer|always|never)\b)"
    r"|,\s+(?=(?:my|our|i|we)\b)",
    re.IGNORECASE,
)
_IT = re.compile(r"it\b", re.IGNORECASE)
_SUBJECT_OF_IT = re.compile(
    r"((?:my|our|the)\s+.+?|[A-Z]\S*(?:\s\S+){0,4}?)\s+(?:is|are|was|has|listens|runs)\b"
)
_VERB = re.compile(r"(?:work|live|prefer|always|never)\b", re.IGNORECASE)
_SPEAKER = re.compile(r"(i|we)\b", re.IGNORECASE)
_NEW = re.compile(
    r"(?:my|our|the)\s+(?:new|updated|revised|current|actual|correct)\s", re.IGNORECASE
)
_MEANT = re.compile(
    r"(?:it's|it\s+is|it\s+should\s+be|that\s+should\s+be|i\s+meant|make\s+that)\s+(?P<value>.+)",
    re.IGNORECASE,
)
_AFTER_VALUE = re.compile(
    r"(?:,?\s+(?:so that|because|which|but|since|although|as opposed to)\b|,\s+so\b"
    r"|\s+[(–—-](?=\s)|\s\().*$",
    re.IGNORECASE,
)
_NOT_BUT = re.compile(r"not\s+(?P<old>.+?)\s*,?\s+but\s+(?P<value>.+)", re.IGNORECASE)
_BUT_NOT = re.compile(
    r"(?P<value>.+?),?\s+(?:and\s+)?(?:not|instead\s+of|rather\s+than)\s+(?P<old>.+)", re.IGNORECASE
)
_TRAILING = re.compile(
    r",?\s+(?:(?P<now>now|instead|from now on)|any ?more|by the way|please|as well|too|though"
    r"|again)$",
    re.IGNORECASE,
)
_NO_SUBJECT = re.compile(
    r"""(?:that|which|who|whom|whose|i|you|he|she|we|it|they|me|us|is|are|was|were|be|do|does|did
    |has|have|had|things?|point|idea|question|problem|issue|reason|rest|fact|truth|same|other
    |following|above|below|way|this|these|those|there|here|everything|everyone|nothing|something
    |someone|all|one|what|why|how|yes|no|today|tomorrow|yesterday|not|answer|only|never|always
    )(?:'.*)?""",
    re.IGNORECASE | re.VERBOSE,
)
_SAYS_LITTLE = re.compile(
    r"""(?:that|whether|how|why|what|where|who|when|to|not\ sure|unclear|going|as\ follows|so|very
    |too|really|quite|just|also|there|here|as|like|such)\b
    |(?:fine|good|great|ok|okay|done|ready|broken|correct|right|wrong|nice|bad|important|clear|true
    |false|back|up|down|over|on\ it|it|interesting|helpful|useful|boring|hard|easy|[a-z]+ing)$""",
    re.IGNORECASE | re.VERBOSE,
)
_SPECIFIC = re.compile(r"\d|[\"“]|\b[A-Z]")
_FORGETS = re.compile(
    r"(?:forget(?:\s+about)?|(?:delete|erase|remove)(?=.*\sfrom\s+(?:your|the)\s+memory))\s+"
    r"(?:that\s+)?(?P<what>(?:my|our|the|i|we)\s.+?)(?:\s+from\s+(?:your|the)\s+memory)?[.!]*",
    re.IGNORECASE,
)


def extract_facts(text: str, turn: int) -> tuple[Fact, ...]:
    """What a user states in `text`, in order.

    Only the user's own plain statements count. Questions with their premises, suppositions,
    hearsay, quotations, code and documents state nothing. A statement that says it is a change
    ("actually", "now", "moved to", "not X but Y") is marked as a correction. The same text gives
    the same facts in every process. No more than the first 200 sentences are read.
    """
    found: list[Fact] = []
    is_correction = False
    for sentence in split_sentences(own_words(text))[:_MOST_SENTENCES]:
        if is_question(sentence) or QUOTATION in sentence or len(sentence) > _LONGEST_SENTENCE:
            is_correction = False
            continue
        claim, marked = _without_leads(sentence)
        # "I was wrong. The port is 81.": the mark is for the next sentence.
        is_correction = is_correction or marked
        found += [
            replace(
                fact, text=sentence, turn=turn, is_correction=is_correction or fact.is_correction
            )
            for fact in _facts_of_claim(claim)
        ]
        is_correction = is_correction and not claim
    return tuple(found)


def forget_request(text: str) -> str | None:
    """What the user asks to have forgotten ("forget my address"): the subject's key, or None.

    `FactBook.find` says which of its keys that is.
    """
    for sentence in split_sentences(own_words(text)):
        asked = _FORGETS.fullmatch(_without_leads(sentence)[0])
        if asked is None or is_question(sentence):
            continue
        stated = _facts_of_claim(asked["what"])
        if stated:
            return stated[0].key
        key = fact_key(asked["what"])
        return "user name" if key == "name" else key or None
    return None


def _without_leads(sentence: str) -> tuple[str, bool]:
    """The sentence without "also", "actually" and the like, and whether it corrects."""
    rest, marked = sentence.rstrip(_PUNCTUATION), False
    while True:
        corrects = _CORRECTS.match(rest)
        lead = corrects or _LEADS.match(rest)
        if lead is None:
            return rest, marked
        marked = marked or corrects is not None
        rest = rest[lead.end() :].lstrip(_PUNCTUATION)


def _facts_of_claim(claim: str) -> list[Fact]:
    asked = _REMEMBERS.match(claim)
    if asked is not None:
        claim = claim[asked.end() :].strip()
    if not claim or _SUPPOSES.search(claim):
        return []
    facts = _facts_of_clauses(claim)
    if asked is None:
        return facts
    if not facts:
        facts = [Fact(fact_key(f"note {claim}"), claim, claim, 0, FactKind.NOTE)]
    return [replace(fact, confidence=1.0) for fact in facts]


def _facts_of_clauses(claim: str) -> list[Fact]:
    """A clause ends only where another statement begins: "the cat and the dog" is one value."""
    found: list[Fact | None] = []
    clause = claim
    for link in _NEXT_CLAUSE.finditer(claim):
        following = _with_subject(claim[link.end() :], clause)
        if _fact_of_clause(following) is None and not _IT.match(claim[link.end() :]):
            continue
        found.append(_fact_of_clause(clause[: len(clause) - (len(claim) - link.start())]))
        clause = following
    return [fact for fact in [*found, _fact_of_clause(clause)] if fact is not None]


def _with_subject(clause: str, before: str) -> str:
    """The clause, where "it" is what the one before is about, and a bare verb of its speaker."""
    if _IT.match(clause) and (subject := _SUBJECT_OF_IT.match(before)) is not None:
        return subject[1] + clause[2:]
    if _VERB.match(clause) and (speaker := _SPEAKER.match(before)) is not None:
        return f"{speaker[1]} {clause}"
    return clause


def _fact_of_clause(clause: str) -> Fact | None:
    meant = _MEANT.fullmatch(clause)
    if meant is not None:
        value, old, _ = _value(meant["value"])
        if old is None or not value:
            return None
        return Fact(
            old_key(old), value, clause, 0, confidence=0.9, is_correction=True, replaces=old
        )
    read = (
        _read(form, found)
        for form in FACT_FORMS
        if (found := form.pattern.fullmatch(clause)) is not None
    )
    return next((fact for fact in read if fact is not None), None)


def _read(form: FactForm, found: re.Match[str]) -> Fact | None:
    groups = found.groupdict()
    subject, denied = groups.get("subject"), groups.get("denied")
    if not _is_subject(subject, form.kind):
        return None
    value, old, is_now = _value(f"not {denied}" if denied else groups["value"])
    key = form.key(found)
    if not key or not value or len(value.split()) > _MOST_WORDS:
        return None
    is_property = form.kind is FactKind.PROPERTY
    if is_property and _SAYS_LITTLE.match(value):
        return None
    return Fact(
        key,
        value,
        found.string,
        0,
        form.kind,
        confidence=0.6 if is_property and not _SPECIFIC.search(value) else 0.9,
        is_correction=form.is_change
        or is_now
        or old is not None
        or any(groups.get(group) for group in ("now", "now2"))
        or (subject is not None and _NEW.match(subject) is not None),
        replaces=groups.get("old") or old,
    )


def _is_subject(subject: str | None, kind: FactKind) -> bool:
    """Things of the user's, named things, and no pronouns or whole sentences."""
    if subject is None or kind is FactKind.PREFERENCE:
        return True
    words = subject.split()
    is_named = words[0].lower() in ("my", "our", "the") or words[0][0].isupper()
    return (is_named or kind is FactKind.CHOICE) and not any(
        _NO_SUBJECT.fullmatch(word) for word in words
    )


def _value(text: str) -> tuple[str, str | None, bool]:
    """The value that a clause ends with, the value that it replaces, and whether it says "now"."""
    text = _AFTER_VALUE.sub("", text) if not _NOT_BUT.fullmatch(text) else text
    replaced = _NOT_BUT.fullmatch(text) or _BUT_NOT.fullmatch(text)
    value, old = (replaced["value"], replaced["old"]) if replaced else (text, None)
    is_now = False
    while (end := _TRAILING.search(value)) is not None:
        value, is_now = value[: end.start()], is_now or end["now"] is not None
    value = value.strip(' ,;:!—-"“”')
    return value, None if old is None else old.strip(' ,;:!?.—-"“”'), is_now
