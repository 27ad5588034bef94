"""Which questions of a ledger become pairs: by checked evidence alone, and half are held out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.bridge import OfflineProvider, Reply, Request, Router
from sigma_jax.grounding import (
    Answerer,
    Ledger,
    Pair,
    Retriever,
    ScoredAnswer,
    is_held_out,
    read_corpus,
    read_ledger,
    record_item,
    training_pairs,
)

PAGE = """# The machine

A swap is accepted if the relative drift is below 0.25.

The server listens on port 11434 of the loopback address.
Clients of the server need no key.

Retries rest for 30 seconds after three errors.
"""
SWAP = "Below which relative drift is a swap accepted?"
PORT = "On which port does the server listen?"
REST = "How many seconds do retries rest after three errors?"


class Says:
    """Answers each question with what it was given, and others with nothing."""

    def __init__(self, name: str, lines: dict[str, str]):
        self.name, self.lines = name, lines

    def answer(self, request: Request) -> Reply:
        return Reply(self.lines.get(request.question, ""), self.name, 1, 1, 0.0)


@pytest.fixture
def loop(tmp_path):
    """A function that asks questions of some providers, and gives the records."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text(PAGE)
    corpus = read_corpus(tmp_path)
    retriever = Retriever(corpus.passages, contexts=corpus.contexts)
    path = tmp_path / "ledger.jsonl"

    def records(questions, *providers):
        offline = OfflineProvider(retriever.word_weight)
        with Ledger(path) as ledger:
            router = Router(list(providers), offline=offline)
            answerer = Answerer(corpus, retriever, router, ledger)
            for question in questions:
                answerer.answer(question)
        return list(read_ledger(path))

    return records


def pairs_of(records) -> dict[str, Pair]:
    return {pair.question: pair for pair in training_pairs(records, kernel="kernel")}


def test_what_others_answered_with_evidence_is_learnt_and_nothing_else(loop):
    kernel = Says("kernel", {REST: "Retries rest for 30 seconds after three errors."})
    records = loop([SWAP, PORT, REST, "Why is the sky blue?"], kernel)
    found = pairs_of(records)
    # The kernel said REST itself, with evidence; nobody says anything of the sky.
    assert set(found) == {SWAP, PORT}
    assert found[SWAP].answer == "A swap is accepted if the relative drift is below 0.25."
    assert found[SWAP].provider == "offline"
    assert found[SWAP].id == SWAP
    (source,) = found[SWAP].sources
    path, lines = source.split(":")
    first, last = (int(number) for number in lines.split("-"))
    assert path == "docs/page.md"
    assert found[SWAP].answer in PAGE.splitlines()[first - 1 : last]


def test_proposals_are_not_learnt_and_claims_are_learnt_once_in_their_order(loop):
    port = "The server listens on port 11434 of the loopback address."
    key = "Clients of the server need no key."
    strong = Says("strong", {PORT: f"{port}\nIt was built in Jena in 1846.\n{key}\n{port}"})
    pair = pairs_of(loop([PORT], Says("kernel", {}), strong))[PORT]
    assert pair.answer == f"{port}\n{key}"
    assert pair.provider == "strong"
    assert len(pair.sources) == len(set(pair.sources))


def test_the_kernels_ungrounded_words_do_not_make_a_question_easy(loop):
    kernel = Says("kernel", {PORT: "It listens on port 80 of every address."})
    assert set(pairs_of(loop([PORT], kernel))) == {PORT}
    assert not training_pairs(loop([], kernel), kernel="offline")


def test_asked_again_later_it_counts_as_the_first_time(loop):
    knows = {REST: "Retries rest for 30 seconds after three errors."}
    loop([REST], Says("kernel", knows))
    loop([PORT], Says("kernel", {}))
    # Now the kernel has forgotten the one and learnt the other.
    learnt = {PORT: "The server listens on port 11434 of the loopback address."}
    assert set(pairs_of(loop([REST, PORT], Says("kernel", learnt)))) == {PORT}


def scored(question: str, rubric: str, text: str) -> ScoredAnswer:
    about = ("id-of-it", question, "easy", "none", rubric, text)
    return ScoredAnswer("grounded", *about, True, "offline", 1, 1, 0.0)


def test_neither_rubric_nor_score_decides(loop, tmp_path):
    loop([SWAP], Says("kernel", {}))
    found = []
    for rubric in ("0.25", "never right"):
        with Ledger(tmp_path / "ledger.jsonl") as ledger:
            record_item(ledger, scored(SWAP, rubric, "0.25"))
        found.append(training_pairs(read_ledger(tmp_path / "ledger.jsonl"), kernel="kernel"))
    assert found[0] == found[1]
    assert found[0][0].id == "id-of-it"


def test_interleaved_questions_are_refused(tmp_path):
    def written(*entries):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        with Ledger(path) as ledger:
            for kind, content in entries:
                ledger.append(kind, content)
        return list(read_ledger(path))

    def retrieved(question):
        return "retrieved", {"question": question, "sources": []}

    def reply(question, provider):
        return "reply", {"question": question, "provider": provider, "text": "Yes."}

    trusted = ("trusted", {"claim": "Yes.", "source": "strong", "evidence": []})
    good = written(retrieved("A?"), reply("A?", "strong"), trusted)
    assert [pair.answer for pair in training_pairs(good, kernel="kernel")] == ["Yes."]
    for bad in (
        [retrieved("A?"), retrieved("B?"), reply("A?", "strong"), trusted],
        [retrieved("A?"), reply("A?", "weak"), trusted],
        [reply("A?", "strong"), trusted],
    ):
        with pytest.raises(ValueError, match=r"record \d .* belongs to another question"):
            training_pairs(written(*bad), kernel="kernel")
    # What was trusted beside any question answers none.
    assert training_pairs(written(trusted, retrieved("A?")), kernel="kernel") == ()


@given(st.text(), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_a_larger_share_holds_out_those_of_a_smaller_one(name, one, other):
    small, large = sorted((one, other))
    assert is_held_out(name, large) >= is_held_out(name, small)
    assert not is_held_out(name, 0.0)
    assert is_held_out(name, 1.0)


def test_about_the_share_is_held_out_and_always_the_same():
    names = [f"question-{number}" for number in range(4000)]
    held = sum(is_held_out(name, 0.3) for name in names)
    assert abs(held - 1200) < 4 * (4000 * 0.3 * 0.7) ** 0.5
    # SHA-256("abc") begins with ba7816bf, about 0.7284 of the range (FIPS 180-4).
    assert not is_held_out("abc", 0.728)
    assert is_held_out("abc", 0.729)
    with pytest.raises(ValueError, match="share must lie in"):
        is_held_out("abc", 1.5)
