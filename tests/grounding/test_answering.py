"""The loop over a question, with providers that say what the test wants."""

from dataclasses import dataclass, field

import pytest

from sigma_jax.bridge import Failure, OfflineProvider, ProviderError, Reply, Request, Router
from sigma_jax.grounding import Answerer, Ledger, Retriever, read_corpus, read_ledger

PAGE = """# The machine

A swap is accepted if the relative drift is below 0.25.

The monitor flags a step when the innovation exceeds its threshold.

Retries rest for 30 seconds after three errors.
"""


@dataclass
class Says:
    """Replies from a list, one a call; a failure where there is one."""

    name: str
    replies: list[str | Failure]
    asked: list[Request] = field(default_factory=list)

    def answer(self, request: Request) -> Reply:
        said = self.replies[min(len(self.asked), len(self.replies) - 1)]
        self.asked.append(request)
        if isinstance(said, Failure):
            raise ProviderError(self.name, said, "it failed.")
        sizes = len(request.prompt.encode()), len(said.encode())
        return Reply(said, self.name, *sizes, 0.5)


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "page.md").write_text(PAGE)
    return read_corpus(tmp_path, ("*.md",))


def answerer(corpus, *providers, ledger=None, offline=None):
    retriever = Retriever(corpus.passages, contexts=corpus.contexts)
    offline = OfflineProvider(retriever.word_weight) if offline is None else offline
    return Answerer(corpus, retriever, Router(providers, offline=offline), ledger)


QUESTION = "Below which relative drift is a swap accepted?"


def test_the_first_grounded_claim_is_served_with_its_source(corpus):
    wrong = Says("wrong", ["A swap is accepted if the relative drift is below 0.5."])
    good = Says("good", ["A swap is accepted if the relative drift is below 0.25. Trust me."])
    never = Says("never", ["unasked"])
    answer = answerer(corpus, wrong, good, never).answer(QUESTION)
    assert answer.text == "A swap is accepted if the relative drift is below 0.25."
    assert (answer.trusted, answer.provider) == (True, "good")
    (source,) = answer.sources
    assert corpus.resolve(source) == "\n".join(PAGE.splitlines()[:3])
    assert [attempt.reply.provider for attempt in answer.attempts] == ["wrong", "good"]
    assert [a.envelope.confidence for a in answer.attempts[1].admissions] == [1.0, 0.3]
    assert not never.asked
    assert answer.served_bytes == len(f"{answer.text}\n{source}".encode())
    sent = sum(len(p.asked[0].prompt.encode()) for p in (wrong, good))
    said = sum(len(p.replies[0].encode()) for p in (wrong, good))
    assert answer.exchanged_bytes == sent + said


def test_what_nobody_can_ground_is_asked_again_without_passages_and_proposed(corpus):
    kernel = Says("kernel", ["I_JUMP", "I_TURN_LEFT I_JUMP"])
    answer = answerer(corpus, kernel).answer("jump left")
    assert (answer.text, answer.trusted, answer.provider) == ("I_TURN_LEFT I_JUMP", False, "kernel")
    assert answer.sources == ()
    assert kernel.asked[-1].passages == ()
    assert kernel.asked[-1].prompt == "jump left"


def test_offline_answers_when_the_others_are_down(corpus):
    down = [Says(f"down{i}", [Failure.UNREACHABLE]) for i in range(2)]
    answer = answerer(corpus, *down).answer(QUESTION)
    assert answer.provider == "offline"
    assert answer.trusted
    assert "0.25" in answer.text


def test_nobody_says_anything(corpus):
    answer = answerer(corpus, offline=Says("offline", [""])).answer(QUESTION)
    assert (answer.text, answer.provider, answer.trusted) == ("", "", False)


def test_every_step_is_in_the_ledger(corpus, tmp_path):
    path = tmp_path / "ledger.jsonl"
    kernel = Says("kernel", ["It is below 7."])
    with Ledger(path) as ledger:
        answerer(corpus, kernel, ledger=ledger).answer(QUESTION)
    records = list(read_ledger(path))
    kinds = [record.kind for record in records]
    assert kinds[:4] == ["retrieved", "reply", "proposal", "reply"]
    assert set(kinds[4:]) == {"trusted"}
    assert records[1].content["provider"] == "kernel"
    assert records[2].content["claim"] == "It is below 7."
    assert records[2].content["confidence"] == 0.3
    assert records[3].content["provider"] == "offline"
    assert records[4].content["evidence"][0]["source"].startswith("page.md:")


def test_another_judge_of_entailment_is_listened_to(corpus):
    kernel = Says("kernel", ["Drift under a quarter passes."])
    found = answerer(corpus, kernel)
    easy = Answerer(corpus, found.retriever, found.router, entails=lambda text, claim: True)
    assert easy.answer(QUESTION).provider == "kernel"
    assert found.answer(QUESTION).provider == "offline"
