"""The forms in which a user states a fact: how each is read, and what it is about."""

import re
from collections.abc import Callable
from typing import NamedTuple

from .facts import FactKind, fact_key


class FactForm(NamedTuple):
    """A form of statement, matched against a whole clause."""

    pattern: re.Pattern[str]
    """With a group `value`, or `denied` for what is said not to be. `now` says that it is a change;
    `old` is what was before."""
    kind: FactKind
    key: Callable[[re.Match[str]], str]
    is_change: bool


_MINE = r"(?P<subject>(?:my|our|the)\s+[^,;:!?]{1,60}?)"
_SUBJECT = r"(?P<subject>(?:my|our|the)\s+[^,;:!?]{1,60}?|[^\s,;:!?]+(?:\s+[^\s,;:!?]+){0,4}?)"
_VALUE = r"(?P<value>.+)"
_NOW = r"(?:(?P<now>now|actually|in fact|currently)\s+)?"
_I = r"(?:i|we)(?:'m|'re|'ve|'ll|\s+am|\s+are|\s+have|\s+will)?\s+(?:just\s+)?"
_BEEN = r"(?:(?:has|have|had|was|were|got|is|are|been|just)\s+)*"
_MOVED = (
    r"(?:moved|changed|pushed|postponed|shifted|switched|updated|rescheduled|extended|slipped"
    r"|increased|raised|lowered|reduced|cut)(?:\s+(?:back|forward|up|down|out))?(?:\s+from\s+.+?)?"
)
_TAKES = (
    r"(?:costs?|takes?|weighs?|lasts?|has|have|needs?|expires?|starts?|ends?|opens?|closes?"
    r"|begins?|listens?|runs?|holds?|serves?|allows?)(?:\s+(?:on|at|in|for|up to))?"
)
_DWELLS = (
    r"(?P<verb>live in|live at|live on|work at|work for|work as|study at|come from|grew up in"
    r"|was born in|was born on|report to)"
)


def _of_subject(found: re.Match[str]) -> str:
    return fact_key(found["subject"])


def _of_name(found: re.Match[str]) -> str:
    """What something is called is another fact than what it is."""
    key = _of_subject(found)
    return key if key.endswith("name") else f"{key} name"


def old_key(value: str) -> str:
    """The key of what is known only by the value that it had."""
    return f"not {fact_key(value)}"


def _of_old(found: re.Match[str]) -> str:
    return old_key(found["old"])


def _of_verb(found: re.Match[str]) -> str:
    return fact_key(f"i {found['verb'].lower().replace('work for', 'work at')}")


def _of_verb_and_value(found: re.Match[str]) -> str:
    """What may hold beside others of its sort has the value in its key."""
    return fact_key(f"i {found['verb']} {found['value']}")


def _of_verb_and_subject(found: re.Match[str]) -> str:
    return fact_key(f"{found['subject']} {found['verb']}")


def _of_preference(found: re.Match[str]) -> str:
    return fact_key(f"prefer {found['subject']}")


def _of_habit(found: re.Match[str]) -> str:
    return fact_key(f"i {found['subject']}")


def _form(
    pattern: str,
    kind: FactKind,
    key: str | Callable[[re.Match[str]], str],
    is_change: bool = False,
) -> FactForm:
    of = key if callable(key) else lambda found: key
    return FactForm(re.compile(pattern, re.IGNORECASE), kind, of, is_change)


_NAMES = (
    _form(
        rf"(?:my name(?:'s|\s+is)|i'm called|i am called|call me)\s+{_NOW}{_VALUE}",
        FactKind.NAME,
        "user name",
    ),
    _form(rf"(?:(?:we|i)\s+)?renamed?\s+{_SUBJECT}\s+to\s+{_VALUE}", FactKind.NAME, _of_name, True),
    _form(
        rf"{_SUBJECT}\s+(?:was|is|got|has been)\s+renamed(?:\s+to)?\s+{_VALUE}",
        FactKind.NAME,
        _of_name,
        True,
    ),
    _form(
        rf"{_SUBJECT}\s+(?:is|are)\s+{_NOW}(?:called|named|known as)\s+{_VALUE}",
        FactKind.NAME,
        _of_name,
    ),
)
_CHANGES = (
    _form(rf"{_SUBJECT}\s+{_BEEN}{_MOVED}\s+to\s+{_VALUE}", FactKind.PROPERTY, _of_subject, True),
    _form(
        rf"{_SUBJECT}\s+(?:becomes|became|has become)\s+{_VALUE}",
        FactKind.PROPERTY,
        _of_subject,
        True,
    ),
    _form(rf"{_I}{_MOVED}\s+{_MINE}\s+to\s+{_VALUE}", FactKind.PROPERTY, _of_subject, True),
)
_CHOICES = (
    _form(
        rf"{_I}(?:switched|moved|migrated)(?:\s+from\s+(?P<old>.+?))?\s+to\s+(?P<value>.+?)"
        rf"\s+(?:for|as)\s+{_MINE}",
        FactKind.CHOICE,
        _of_subject,
        True,
    ),
    _form(
        rf"{_I}(?:switched|moved|migrated)\s+from\s+(?P<old>.+?)\s+to\s+{_VALUE}",
        FactKind.CHOICE,
        _of_old,
        True,
    ),
    _form(rf"{_I}replaced\s+(?P<old>.+?)\s+(?:with|by)\s+{_VALUE}", FactKind.CHOICE, _of_old, True),
    _form(
        rf"{_I}(?P<now>now\s+)?(?:use|using|chose|picked|chosen|selected|went with|going with"
        r"|settled on|decided on|run|running)\s+(?P<value>.+?)\s+(?:for|as)\s+(?P<subject>.+)",
        FactKind.CHOICE,
        _of_subject,
    ),
    _form(
        rf"{_I}(?P<now>now\s+)?(?P<verb>use)\s+(?P<value>\S+(?:\s+\S+){{0,3}})",
        FactKind.CHOICE,
        _of_verb_and_value,
    ),
)
_PERSONS = (
    _form(
        rf"(?:i|we)\s+(?:no longer|don't|do not)\s+{_DWELLS}\s+(?P<denied>.+?)(?:\s+any ?more)?",
        FactKind.PERSON,
        _of_verb,
        True,
    ),
    _form(rf"{_I}{_NOW}{_DWELLS}\s+{_VALUE}", FactKind.PERSON, _of_verb),
    _form(rf"{_I}{_NOW}based in\s+{_VALUE}", FactKind.PERSON, "i live in"),
    _form(rf"{_I}moved(?:\s+from\s+.+?)?\s+to\s+{_VALUE}", FactKind.PERSON, "i live in", True),
    _form(r"i(?:'m|\s+am)\s+(?P<value>\d+)(?:\s+years old)?", FactKind.PERSON, "user age"),
    _form(
        rf"i(?:'m|\s+am)\s+(?P<verb>allergic to|from)\s+{_VALUE}",
        FactKind.PERSON,
        _of_verb_and_value,
    ),
    _form(
        r"i(?:'m|\s+am)\s+(?P<verb>an?)\s+(?!bit|little|fan|lot)(?P<value>\S+(?:\s+\S+){0,2})",
        FactKind.PERSON,
        _of_verb_and_value,
    ),
)
_PREFERENCES = (
    _form(
        r"i\s+(?P<now>now\s+)?prefer\s+(?P<value>.+?)\s+(?:for|when|in)\s+(?P<subject>.+)",
        FactKind.PREFERENCE,
        _of_preference,
    ),
    _form(
        rf"i\s+(?P<now>now\s+)?(?P<verb>prefer|like|love|hate|dislike|can't stand)\s+{_VALUE}",
        FactKind.PREFERENCE,
        _of_verb_and_value,
    ),
    _form(
        r"i\s+(?:(?P<now>now)\s+)?(?P<value>always|never|no longer|don't|do not)\s+(?P<subject>.+?)"
        r"(?P<now2>\s+any ?more)?",
        FactKind.PREFERENCE,
        _of_habit,
    ),
)
_PROPERTIES = (
    _form(
        rf"{_SUBJECT}\s+(?:is|are)(?:n't|\s+not|\s+no longer)\s+(?P<denied>.+)",
        FactKind.PROPERTY,
        _of_subject,
        True,
    ),
    _form(
        rf"{_SUBJECT}\s+(?:is|are|will be|equals|=)\s+(?:still\s+)?{_NOW}{_VALUE}",
        FactKind.PROPERTY,
        _of_subject,
    ),
    _form(
        rf"{_SUBJECT}\s+(?P<now>now\s+)?(?P<verb>{_TAKES})\s+(?P<value>\D{{0,12}}\d.*)",
        FactKind.PROPERTY,
        _of_verb_and_subject,
    ),
)
FACT_FORMS = _NAMES + _CHANGES + _CHOICES + _PERSONS + _PREFERENCES + _PROPERTIES
"""The first that fits a clause counts."""
