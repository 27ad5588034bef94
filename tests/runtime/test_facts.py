"""What counts as a fact, what never does, and that a correction sticks and nothing is lost."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.runtime import (
    Ending,
    Fact,
    FactBook,
    FactKind,
    extract_facts,
    fact_key,
    forget_request,
)

STATED = {
    "My sister is called Anna.": [("sister name", "Anna")],
    "The name of the staging cluster is Finch.": [("staging cluster name", "Finch")],
    "Call me Ishmael.": [("user name", "Ishmael")],
    "hi, my name is ada. i live in oslo.": [("user name", "ada"), ("i live in", "oslo")],
    "The port is 5432.": [("port", "5432")],
    "The deadline of our project is 5 May 2031, because of the audit.": [
        ("project deadline", "5 May 2031")
    ],
    "By the way, our budget is 40,000 euros.": [("budget", "40,000 euros")],
    "Heron's port is 5433": [("heron port", "5433")],
    "We use Redis for the cache.": [("cache", "Redis")],
    "We've decided on blue-green as our rollout strategy": [("rollout strategy", "blue-green")],
    "I live in Oslo and work at Equinor.": [("i live in", "Oslo"), ("i work at", "Equinor")],
    "I'm allergic to peanuts.": [("i allergic to peanuts", "peanuts")],
    "I'm 41 years old.": [("user age", "41")],
    "I never eat meat. I always fly economy!": [
        ("i eat meat", "never"),
        ("i fly economy", "always"),
    ],
    "I prefer tabs for Python.": [("prefer python", "tabs")],
    "The service listens on port 8443.": [("service listens on", "port 8443")],
    "The database is called Heron and it listens on port 5432.": [
        ("database name", "Heron"),
        ("database listens on", "port 5432"),
    ],
    "Our database is Postgres, and my laptop is a ThinkPad.": [
        ("database", "Postgres"),
        ("laptop", "a ThinkPad"),
    ],
    "My favourites are the cat and the dog.": [("favourites", "the cat and the dog")],
    'My motto is "festina lente".': [("motto", "festina lente")],
    "Please remember that the launch code is blue horse.": [("launch code", "blue horse")],
    "My brother’s birthday is 3 March.": [("brother birthday", "3 March")],
}
CORRECTED = {
    "Actually, the port is 81.": ("port", "81", None),
    "The port is now 81.": ("port", "81", None),
    "Correction: the port is 81, not 80.": ("port", "81", "80"),
    "The port is not 80 but 81.": ("port", "81", "80"),
    "I was wrong. The port is 81.": ("port", "81", None),
    "The port was changed from 80 to 81": ("port", "81", None),
    "We've moved the port to 81.": ("port", "81", None),
    "From now on, the port is 81.": ("port", "81", None),
    "No, it's 81, not 80.": ("port", "81", "80"),
    "We switched from 80 to 81.": ("port", "81", "80"),
    "The new port is 81": ("port", "81", None),
    "The new service port is 81": ("new service port", "81", None),
    "The port isn't 80 any more.": ("port", "not 80", None),
}
NOT_STATED = [
    "What is the deadline?",
    "Is the port 80",
    "Since the deadline is 5 May, could you plan the week?",
    "Since the deadline is 5 May, plan the week.",
    "Given that our budget is 40, what now?",
    "If the database were Oracle, the port is 1521.",
    "Suppose the port is 99.",
    "Maybe the port is 99.",
    "I think the port is 99.",
    "The document says the port is 99.",
    "According to Bob, the port is 99.",
    'He wrote "The port is 99."',
    '"Hello there. The port is 99. Goodbye."',
    "“Hello there. The port is 99. Goodbye.”",
    "> The port is 99.",
    "```\nThe port is 99.\n```",
    "~~~\nThe port is 99.",
    "<document>\nIgnore this.\nThe port is 99.\n</document>",
    "<document id='1'>\nThe port is 99.",
    "Answer in French. Be brief.",
    "Write to my sister.",
    "Remind me what the port is.",
    "The weather is nice. The tests are running.",
    "The thing is that we are late.",
    "It is 9 o'clock. That is 5. There are 7. Everything is 8.",
    "Delete the file.",
    "",
    " \n\n ",
]  # fmt: skip


@pytest.mark.parametrize("text", STATED)
def test_plain_statements_are_facts(text):
    found = extract_facts(text, 7)
    assert [(fact.key, fact.value) for fact in found] == STATED[text]
    assert all(
        fact.turn == 7 and not fact.is_correction and fact.valid_to is None for fact in found
    )
    assert all(fact.text in text.replace("’", "'") for fact in found)


@pytest.mark.parametrize("text", CORRECTED)
def test_corrections_replace_what_they_are_about(text):
    key, value, replaces = CORRECTED[text]
    (found,) = extract_facts(text, 2)
    assert found.is_correction
    assert (found.value, found.replaces) == (value, replaces)
    book = FactBook().add(extract_facts("The port is 80.", 1)).add([found])
    assert {(fact.key, fact.value) for fact in book.current()} == (
        {("port", "80"), (key, value)} if key != "port" else {(key, value)}
    )


@pytest.mark.parametrize("text", NOT_STATED)
def test_questions_suppositions_hearsay_and_quotations_state_nothing(text):
    assert extract_facts(text, 1) == ()


def test_kinds_and_confidence():
    def of(text):
        (fact,) = extract_facts(text, 1)
        return fact.kind, fact.confidence

    assert of("My name is Ada.") == (FactKind.NAME, 0.9)
    assert of("The mood is sombre.") == (FactKind.PROPERTY, 0.6)
    assert of("Remember that the mood is sombre.") == (FactKind.PROPERTY, 1.0)
    assert of("Remember: cats purr.") == (FactKind.NOTE, 1.0)
    assert of("We use Redis for the cache.") == (FactKind.CHOICE, 0.9)
    assert of("I live in Oslo.") == (FactKind.PERSON, 0.9)
    assert of("I love sushi.") == (FactKind.PREFERENCE, 0.9)


def test_keys_are_compared_without_articles_and_owners():
    assert fact_key("the deadline of our project") == fact_key("My project's deadline")
    assert fact_key("The  Port.") == "port"
    assert fact_key("the") == ""


# The book ---------------------------------------------------------------------------------------


def told(*texts):
    book = FactBook()
    for turn, text in enumerate(texts, 1):
        book = book.add(extract_facts(text, turn))
    return book


def values(book):
    return [fact.value for fact in book.current()]


def test_a_correction_sticks():
    book = told("The port is 80.", "Actually, the port is 81.", "The port is 80.")
    assert values(book) == ["81"]
    assert [(f.value, f.valid_to, f.ending) for f in book.history("port")] == [
        ("80", 2, Ending.CORRECTED),
        ("81", None, None),
        ("80", 3, Ending.REFUSED),
    ]
    assert values(book.add(extract_facts("Actually, the port is 80.", 4))) == ["80"]


@pytest.mark.parametrize(
    "text",
    [
        "Is the port 80?",
        "Since the port is 80, is it open?",
        "> The port is 80.",
        'He said "the port is 80".',
    ],
)
def test_neither_questions_nor_quotations_bring_an_old_value_back(text):
    assert values(told("The port is 80.", "The port is now 81.", text)) == ["81"]


def test_a_plain_statement_updates():
    book = told("The port is 80.", "The port is 81.", "The port is 80.")
    assert [fact.ending for fact in book.facts] == [Ending.UPDATED, Ending.UPDATED, None]


def test_a_repetition_takes_the_place_of_what_it_repeats():
    book = told("The port is 80.", "the  port is 80!", "My port is the 80. The port is 80.")
    assert [(fact.turn, fact.ending) for fact in book.facts] == [
        (1, Ending.REPEATED),
        (2, Ending.REPEATED),
        (3, None),
    ]
    corrected = book.add(extract_facts("Actually, the port is 81.", 4))
    assert values(corrected.add(extract_facts("The port is 80.", 5))) == ["81"]


def test_a_correction_may_say_less():
    book = told(
        "The project deadline is 5 May.", "The port is 80.", "The deadline moved to 9 June."
    )
    assert {fact.key: fact.value for fact in book.current()} == {
        "project deadline": "9 June",
        "port": "80",
    }
    two = told(
        "The red deadline is 5 May.", "The blue deadline is 6 May.", "The deadline moved to 9 June."
    )
    assert values(two) == ["5 May", "6 May", "9 June"]


def test_what_is_forgotten_stays_forgotten():
    book = told("My address is 5 Elm St.", "My dog is called Rex.")
    key = book.find(forget_request("Please forget my address."))
    book = book.forget(key, 3)
    assert values(book) == ["Rex"]
    assert values(book.add(extract_facts("My address is 5 Elm St.", 4))) == ["Rex"]
    assert values(book.add(extract_facts("My address is 6 Oak St.", 4))) == ["Rex", "6 Oak St"]
    assert book.history("address")[0].ending is Ending.FORGOTTEN
    with pytest.raises(ValueError, match=r"key must be one of the book's.* got 'adress'"):
        book.forget("adress", 4)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Forget my address.", "address"),
        ("please forget that my name is Ada", "user name"),
        ("Forget my name", "user name"),
        ("Delete my phone number from your memory.", "phone number"),
        ("Don't forget my birthday", None),
        ("Forget it.", None),
        ("Delete the file.", None),
        ("Did you forget my birthday?", None),
        ("> Forget my address.", None),
    ],
)
def test_requests_to_forget(text, key):
    assert forget_request(text) == key


def test_changes_are_what_is_new_or_has_ended():
    before = told("The port is 80.", "My dog is called Rex.")
    after = before.add(extract_facts("The port is now 81.", 3))
    assert [(place, fact.value, fact.valid_to) for place, fact in after.changes(before)] == [
        (0, "80", 3),
        (2, "81", None),
    ]
    assert after.changes(after) == ()
    assert dict(after.changes(FactBook())) == dict(enumerate(after.facts))


def test_bad_facts_are_named():
    book = told("The port is 80.", "The port is 81.")
    with pytest.raises(ValueError, match="order of their turns; got turn 1 after 2"):
        book.add([Fact("port", "1", "", 1)])
    with pytest.raises(ValueError, match="must be without an ending"):
        book.add([Fact("port", "1", "", 3, ending=Ending.UPDATED, valid_to=3)])


statements = st.tuples(
    st.sampled_from(["port", "host", "red port"]), st.sampled_from("abc"), st.booleans()
)


@given(st.lists(st.one_of(statements, st.sampled_from(["port", "host"])), max_size=30))
def test_nothing_is_lost_and_the_last_correction_holds(events):
    """Against a loop that keeps, for each key, the value that holds and those withdrawn."""
    book, holding, withdrawn, said = FactBook(), {}, set(), []
    for turn, event in enumerate(events, 1):
        before = book
        if isinstance(event, str):
            if any(key == event for key, _ in said):
                book = book.forget(event, turn)
                withdrawn |= {(key, value) for key, value in said if key == event}
                holding.pop(event, None)
        else:
            key, value, marked = event
            if marked:
                known = any(k == key for k, _ in said)
                key = "red port" if key == "port" and not known and "red port" in holding else key
            book = book.add([Fact(event[0], value, f"{turn}", turn, is_correction=marked)])
            said.append((key, value))
            if holding.get(key) != value and (marked or (key, value) not in withdrawn):
                if marked and key in holding:
                    withdrawn.add((key, holding[key]))
                holding[key] = value
        assert {fact.key: fact.value for fact in book.current()} == holding
        assert len(book.current()) == len(holding)
        # Append only: what was said stays at its place, and an end stays where it was.
        for old, new in zip(before.facts, book.facts, strict=False):
            assert (old.key, old.value, old.text, old.turn) == (
                new.key,
                new.value,
                new.text,
                new.turn,
            )
            assert old.valid_to in (None, new.valid_to)
    assert [(fact.key, fact.value) for fact in book.facts] == said


@given(st.text(max_size=300))
def test_any_text_gives_facts_within_it(text):
    for fact in extract_facts(text, 1):
        assert fact.key
        assert fact.value
        FactBook().add([fact])


# Size -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "we moved " + "from to " * 40,
        "the x is " + "not but " * 40,
        "my a" + " and my a" * 40,
        '"' * 300_000,
        "“" * 300_000,
        "```\n" * 100_000,
        "!" * 300_000 + "x",
        "<a>" * 100_000,
        "The port is 80. " * 20_000,
    ],
)
def test_no_text_takes_long(text):
    start = time.process_time()
    extract_facts(text, 1)
    assert time.process_time() - start < 2.0
