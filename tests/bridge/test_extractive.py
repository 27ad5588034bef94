"""The offline provider says what its passages say, word for word, or nothing."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigma_jax.bridge import OfflineProvider, Passage, Request

SERVING = Passage(
    "docs/serving.md:1-20",
    """\
# Serving

The server listens on port 11434 of
the loopback address. It answers Ollama's and OpenAI's clients, e.g. Open WebUI. Requests wait in
a queue.

- A request that finds the queue full is answered with 503.
- A body that is too large is answered with 413.

| option | default | meaning |
|---|---|---|
| `--slots` | 8 | requests that are answered at the same time |
| `--queue` | 128 | requests that may wait |

```console
$ python -m serving --model mini
```
""",
)
CODE = Passage(
    "package/limits.py:1-40",
    '''\
"""Limits of what is read.

A larger archive is refused. Its size is looked at first.
"""

import os

LARGEST = 4_096
"""Bytes of an archive that is read."""
_SPARE = {
    "a": 1,
    "b": 2,
}


def check_size(path: str) -> None:
    """Refuse an archive that is too large.

    Raises `ValueError` that names the archive.
    """
    size = os.stat(path).st_size  # links are followed
    # Equal is allowed.
    if size > LARGEST:
        raise ValueError(path)
''',
)
BOTH = (SERVING, CODE)


def ask(question, passages=BOTH, **options):
    return OfflineProvider(**options).answer(Request(question, tuple(passages))).text


def first(question, passages=BOTH, **options):
    return ask(question, passages, most=1, **options)


# What is quoted ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (
            "On which port does the server listen?",
            "The server listens on port 11434 of the loopback address.",
        ),
        (
            "Which clients does it answer?",
            "It answers Ollama's and OpenAI's clients, e.g. Open WebUI.",
        ),
        (
            "How is a request answered if the queue is full?",
            "- A request that finds the queue full is answered with 503.",
        ),
        (
            "How many requests are answered at the same time?",
            "| `--slots` | 8 | requests that are answered at the same time |",
        ),
        (
            "How many bytes of an archive are read?",
            'LARGEST = 4_096 """Bytes of an archive that is read."""',
        ),
        (
            "Which function refuses an archive that is too large?",
            'def check_size(path: str) -> None: """Refuse an archive that is too large.',
        ),
        ("Name what is looked at first.", "Its size is looked at first."),
        ("Are links followed?", "size = os.stat(path).st_size  # links are followed"),
        (
            "If the size is equal, is that allowed?",
            "# Equal is allowed. if size > LARGEST:",
        ),
        ("What does _SPARE hold?", '_SPARE = { "a": 1, "b": 2, }'),
    ],
)
def test_the_statement_that_answers_is_quoted(question, answer):
    assert first(question).split() == answer.split()
    assert "\n" not in first(question)


def test_a_number_is_preferred_where_one_is_asked_for():
    passage = Passage("a.md:1-2", "The depth of the loop is bounded. The depth of loops is 4.")
    assert first("How deep is the loop at most?", [passage]) == "The depth of loops is 4."
    assert first("What is the depth of the loop?", [passage]) == "The depth of the loop is bounded."


def test_a_name_is_preferred_where_one_is_asked_for():
    text = "Loading the pilot is easy for all. For loading the pilot there is `load_pilot`."
    passage = Passage("a.md:1-2", text)
    assert first("Which function is for loading the pilot?", [passage]).endswith("`load_pilot`.")
    assert first("Is loading the pilot easy?", [passage]) == "Loading the pilot is easy for all."


def test_a_heading_may_say_what_a_sentence_is_about():
    passage = Passage("a.md:1-3", "# Licence\n\nMIT.")
    assert ask("What is the licence?", [passage]) == "MIT."


def test_words_near_by_tell_equals_apart():
    passages = [
        Passage("a.md:1-3", "# The kernel\n\nIts default is 3."),
        Passage("b.md:1-3", "# The server\n\nThe default is 5."),
        Passage("router.md:1-1", "A default is 7."),
    ]
    assert first("What is the server's default?", passages) == "The default is 5."
    assert first("What is the kernel's default?", passages) == "Its default is 3."
    assert first("What is the router's default?", passages) == "A default is 7."


def test_weights_say_which_terms_count():
    passages = [
        Passage("a.md:1-1", "Alpha beta gamma are common here."),
        Passage("b.md:1-1", "The zeta is rare."),
    ]
    question = "Do alpha, beta and zeta differ?"
    assert first(question, passages) == "Alpha beta gamma are common here."
    weights = {"zeta": 9.0}
    chosen = first(question, passages, word_weight=lambda term: weights.get(term, 1.0))
    assert chosen == "The zeta is rare."


def test_explained_code_comes_before_bare_code():
    text = "for step in range(depth):\n\ndepth = 4  # of the step\nfrom depth import step\n"
    passage = Passage("a.py:1-4", text)
    assert first("What is the depth of a step?", [passage]) == "depth = 4  # of the step".replace(
        "  ", " "
    )
    assert "import" not in ask("What is the depth of a step?", [passage])


def test_further_statements_follow_if_they_come_close():
    text = "One two three four. One two three five. One two six. One seven."
    passage = Passage("a.md:1-1", text)
    question = "What of one, two and three?"
    sentences = ["One two three four.", "One two three five.", "One two six."]
    assert ask(question, [passage]).split("\n") == sentences
    assert ask(question, [passage], most=2).split("\n") == sentences[:2]
    assert ask(question, [passage], close=0.9).split("\n") == sentences[:2]


def test_equals_keep_the_order_of_the_passages():
    passages = [Passage("b.md:1-1", "Depth is two."), Passage("a.md:1-1", "Depth is three.")]
    assert ask("What is depth?", passages) == "Depth is two.\nDepth is three."
    assert ask("What is depth?", passages[::-1]) == "Depth is three.\nDepth is two."


def test_what_is_said_twice_is_quoted_once():
    passages = [Passage("a.md:1-1", "Depth is two."), Passage("b.md:1-1", "Depth is two.")]
    assert ask("What is depth?", passages) == "Depth is two."


PARTS = st.sampled_from(
    [
        "# Depth of loops",
        "The depth is 4. Loops are not.",
        "  wrapped, e.g. so",
        "| depth | 3 |",
        "|---|",
        "- depth of a loop",
        "```",
        '"""Depth."""',
        "x = (",
        "depth = 1",
        ")",
        "",
        "   ",
        "def depth(x):",
        '    """The loop.',
        '    """',
        "# Why depth.",
        "'it''s (",
        "import depth",
    ]
)


@settings(max_examples=200)
@given(st.lists(PARTS, max_size=12).map("\n".join), st.sampled_from(["md", "py", "yaml"]))
def test_every_line_of_an_answer_stands_in_a_passage(text, kind):
    passages = (Passage(f"a.{kind}:1-9", text), Passage("b.md:1-1", "The loops have depth."))
    answer = ask("How deep is the depth of a loop?", passages)
    whole = [" ".join(passage.text.split()) for passage in passages]
    for line in answer.split("\n"):
        assert any(line in each for each in whole)


# Saying nothing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of France?",
        "Who maintains the mailing list?",
        "How many moons does Jupiter have?",
        "Which licence does the archive of the museum have?",
        "jump around left twice",
        "?",
        "Why?",
        "What is it that they do?",
    ],
)
@pytest.mark.parametrize("passages", [BOTH, ()], ids=["passages", "none"])
def test_nothing_is_said_about_what_the_passages_do_not_say(question, passages):
    assert ask(question, passages) == ""


def test_a_command_is_no_question():
    passage = Passage("a.md:1-1", 'SCAN has commands such as "jump around left twice", 20,910.')
    assert ask("jump around left twice", [passage]) == ""
    assert ask("What has the command jump around left twice?", [passage])


def test_a_repeated_question_is_no_answer():
    passages = [Passage("a.md:1-1", "Which port is the default port?"), SERVING]
    assert "Which" not in ask("Which port is the default port?", passages)
    assert ask("Which port is the default port?", passages[:1]) == ""
    fragment = Passage("a.md:1-1", "The default port.")
    assert ask("Which port is the default port?", [fragment]) == ""
    assert ask("Is there a default port?", [fragment]) == "The default port."


def test_the_least_share_decides():
    passage = Passage("a.md:1-1", "Alpha beta and zeta.")
    question = "What of alpha, beta, gamma and delta?"
    assert ask(question, [passage], least_share=0.5)
    assert not ask(question, [passage], least_share=0.51)
    assert not ask("What?", [passage], least_share=0.0)


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# Depth", "```", "|---|", "...", "\x00", '"""', "depth"]
)
@pytest.mark.parametrize("source", ["a.md:1-1", "a.py:1-1", "a", ""])
def test_passages_that_say_nothing(text, source):
    assert ask("What is depth?", [Passage(source, text)]) == ""


@pytest.mark.parametrize("start", ["", "# ", "x = '", '"""', "| ", "- "])
@pytest.mark.parametrize(
    "part",
    ["a", " ", "#", "-", "|", "'", '"', "\\", "\\a", "\\'", "a ", ". ", "A. ", "1,", "`", "?"],
)
@pytest.mark.parametrize("kind", ["md", "py"])
def test_long_lines_take_no_long_time(start, part, kind):
    passage = Passage(f"a.{kind}:1-1", start + part * (10_000 // len(part)) + "x")
    ask("Which function has how much depth?", [passage])


# The reply --------------------------------------------------------------------------------------


def test_the_reply_counts_bytes_and_seconds():
    ticks = iter([10.0, 12.5])
    passage = Passage("σ.md:1-1", "σ is coherence.")
    request = Request("What is σ?", (passage,))
    reply = OfflineProvider(clock=lambda: next(ticks)).answer(request)
    assert reply.text == "σ is coherence."
    assert reply.provider == OfflineProvider().name == "offline"
    assert reply.received_bytes == len(reply.text.encode()) == len(reply.text) + 1
    assert reply.sent_bytes == len(request.prompt.encode())
    assert reply.seconds == 2.5


@pytest.mark.parametrize("most", [1, 4, 5, 9, 100])
def test_an_answer_has_no_more_words_than_it_may(most):
    passage = Passage("a.md:1-1", "One two three four. One two three five.")
    request = Request("What of one, two and three?", (passage,), max_tokens=most)
    text = OfflineProvider().answer(request).text
    assert text.split() == ["One", "two", "three", "four.", "One", "two", "three", "five."][:most]
    assert text.count("\n") == (most > 4)


def test_threads_get_the_same_answers():
    provider = OfflineProvider(word_weight=lambda term: math.sqrt(len(term)))
    questions = ["Which port does the server listen on?", "What is refused?", "How many may wait?"]
    requests = [Request(question, BOTH) for question in questions * 30]
    expected = [provider.answer(request).text for request in requests]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda request: provider.answer(request).text, requests))
    assert found == expected
    assert all(expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"least_share": 1.5}, "least_share must lie in"),
        ({"close": -0.1}, "close must lie in"),
        ({"most": 0}, "most must lie in"),
    ],
)
def test_bad_arguments_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        OfflineProvider(**options)
