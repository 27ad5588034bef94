"""The golden set holds what it says, and rubrics are read as the specification has them."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sigma_jax.grammars import SCAN_COMMAND_WORDS, interpret_scan, simple_scan_split
from sigma_jax.grounding import (
    DIFFICULTIES,
    Prompt,
    PromptSource,
    golden_set,
    load_prompts,
    meets,
    parse_rubric,
    unresolved,
)

ROOT = Path(__file__).parents[2]
PROMPTS = golden_set()
SCAN = [prompt for prompt in PROMPTS if prompt.category == "scan"]
QUESTIONS = [prompt for prompt in PROMPTS if prompt.category != "scan"]


def said(prompt: Prompt) -> str:
    return "\n".join(source.quote for source in prompt.sources)


# What the set holds -----------------------------------------------------------------------------


def test_there_are_thirty_of_each_difficulty():
    assert Counter(prompt.difficulty for prompt in PROMPTS) == dict.fromkeys(DIFFICULTIES, 30)
    assert len({prompt.id for prompt in PROMPTS}) == 120
    assert len({prompt.prompt for prompt in PROMPTS}) == 120


def test_every_source_is_where_it_says():
    assert unresolved(PROMPTS, ROOT) == []
    paths = {source.path for prompt in PROMPTS for source in prompt.sources}
    documents = {path for path in paths if path.endswith(".md")}
    assert all(path.startswith("sigma_jax/") for path in paths - documents)
    assert all("/" not in path or path.startswith("docs/") for path in documents)


@pytest.mark.parametrize("prompt", QUESTIONS, ids=lambda prompt: prompt.id)
def test_the_sources_answer_and_the_question_does_not(prompt):
    assert meets(prompt.rubric, said(prompt))
    assert not meets(prompt.rubric, prompt.prompt)


@pytest.mark.parametrize("prompt", SCAN, ids=lambda prompt: prompt.id)
def test_commands_are_answered_as_the_grammar_has_them(prompt):
    assert prompt.difficulty == "smoke"
    assert prompt.rubric == interpret_scan(prompt.prompt)
    assert 3 <= len(prompt.rubric.split()) <= 8
    assert not meets(prompt.rubric, prompt.prompt)


def test_commands_are_of_the_test_part_and_of_every_kind():
    assert len(SCAN) == 15
    assert {prompt.prompt for prompt in SCAN} <= {p.command for p in simple_scan_split().test}
    used = Counter(word for prompt in SCAN for word in prompt.prompt.split())
    assert set(used) == set(SCAN_COMMAND_WORDS)
    assert min(used.values()) >= 3


def test_a_hard_prompt_takes_two_passages_or_asks_for_more_than_a_value():
    for prompt in PROMPTS:
        if prompt.difficulty == "hard" and len(prompt.sources) == 1:
            asks = prompt.prompt.lower()
            assert any(word in asks for word in ("why", "can ", "may ", "does ")), prompt.id


def test_other_prompts_quotes_do_not_meet_a_rubric():
    """A null: how often words about something else would count as the answer."""
    pairs = [(a, b) for a in PROMPTS for b in PROMPTS if a is not b]
    assert sum(meets(a.rubric, said(b)) for a, b in pairs) < 0.01 * len(pairs)


def test_words_thrown_together_do_not_meet_a_rubric():
    """The same null with longer answers: ten other prompts' quotes at once, about a page."""
    draws = random.Random(0)
    met = 0
    for prompt in PROMPTS:
        others = draws.sample([other for other in PROMPTS if other is not prompt], 10)
        met += meets(prompt.rubric, "\n".join(map(said, others)))
    assert met < 0.1 * len(PROMPTS)


# Rubrics ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rubric", "keys"),
    [
        ("a", (("a",),)),
        (" Two words ,b", (("Two words",), ("b",))),
        ("0.25|25 %| a quarter", (("0.25", "25 %", "a quarter"),)),
        ("a|b,c|d", (("a", "b"), ("c", "d"))),
    ],
)
def test_rubrics_are_read(rubric, keys):
    assert parse_rubric(rubric) == keys


@pytest.mark.parametrize("rubric", ["", " ", ",", "a,", ",a", "a|", "|a", "a||b", "a,,b", "a, |b"])
def test_an_empty_key_is_refused(rubric):
    for use in (parse_rubric, lambda text: meets(text, "a b")):
        with pytest.raises(ValueError, match="rubric must be keys separated by commas"):
            use(rubric)


@pytest.mark.parametrize(
    ("rubric", "answer"),
    [
        ("flatten", "It FLATTENS the gradient."),
        ("last good state", "at its last good\n\t state"),
        ("a|b,c", "C and B"),
        ("4", "4"),
        ("4", "It is 4."),
        ("4", "4, or none"),
        ("4", "(4)"),
        ("4", "4 %"),
        ("4", "4%"),
        ("4", "3-4"),
        ("4", "3–4"),
        ("4", "±4"),
        ("4", "=4"),
        ("0.3", "0.6,0.3,0.1"),
        ("20910", "all 20,910 commands"),
        ("16384", "chunk_size: int = 16_384,"),
        ("1234567", "1,234,567"),
        ("-1", "−1"),
        ("−1", "-1"),
        ("1e-4", "about 1E-4."),
        (".71", "at R₀ = .71."),
        ("σ_critical", "above Σ_CRITICAL"),
        ("int8", "in INT8 or NF4"),
    ],
)
def test_answers_that_count(rubric, answer):
    assert meets(rubric, answer)


@pytest.mark.parametrize(
    ("rubric", "answer"),
    [
        ("a,b", "a"),
        ("a|b,c", "a b"),
        ("a", ""),
        ("4", "40"),
        ("4", "14"),
        ("4", "0.4"),
        ("4", ".4"),
        ("4", "4.5"),
        ("4", "4.0"),
        ("4", "x4"),
        ("4", "4x"),
        ("4", "4e3"),
        ("4", "1e-4"),
        ("4", "-4"),
        ("4", "it is −4"),
        ("4", "4²"),
        ("4", "4⁻²"),
        ("20", "20,910"),
        ("910", "20,910"),
        ("384", "16_384"),
        (".71", "0.71"),
        ("1e-4", "1e-40"),
        ("int8", "int80"),
        ("int8", "int8.5"),
        ("8 bits", "18 bits"),
        ("x − 1", "x - 10"),
        ("last good state", "lastgoodstate"),
    ],
)
def test_answers_that_do_not_count(rubric, answer):
    assert not meets(rubric, answer)


# An oracle that looks at one place after the other, without a regular expression.


def stands_as_number(text: str, start: int, end: int) -> bool:
    """Whether the digits text[start:end] are a whole number of their own there."""
    before, after = text[:start][::-1], text[end:]
    glued = before[:1].isalnum() or before[:1] in ("_", ".") or after[:1].isalnum()
    signed = before[:1] == "-" and not before[1:2].isdigit()
    power = after[:1] in ("_", "⁻")
    goes_on = after[:1] == "." and after[1:2].isdigit()
    return not (glued or signed or power or goes_on)


def holds(key: str, text: str) -> bool:
    places = [i for i in range(len(text)) if text.startswith(key, i)]
    if key.isdigit():
        return any(stands_as_number(text, i, i + len(key)) for i in places)
    return bool(places)


WORDS = st.text("ab ", min_size=1, max_size=3).filter(str.strip).map(str.strip)
NUMBERS = st.integers(0, 120).map(str)
KEYS = st.lists(st.lists(WORDS | NUMBERS, min_size=1, max_size=3), min_size=1, max_size=3)


@settings(max_examples=500)
@given(KEYS, st.text("aAbB 01.-x_%⁻", max_size=24))
@example([["4"]], "-4")
@example([["a", "1"], ["0"]], "1 0")
def test_rubrics_as_the_oracle_reads_them(keys, answer):
    rubric = " , ".join("|".join(alternatives) for alternatives in keys)
    text = " ".join(answer.lower().split())
    expected = all(
        any(holds(" ".join(key.split()), text) for key in alternatives) for alternatives in keys
    )
    assert meets(rubric, answer) == expected


@given(KEYS, st.randoms())
def test_an_answer_of_one_alternative_each_meets_the_rubric(keys, draws):
    rubric = ",".join("|".join(alternatives) for alternatives in keys)
    chosen = [draws.choice(alternatives) for alternatives in keys]
    draws.shuffle(chosen)
    answer = " ; ".join(key.upper().replace(" ", "\n ") for key in chosen)
    assert meets(rubric, answer)


# Files of one's own -----------------------------------------------------------------------------

GOOD = {
    "id": "first-prompt",
    "difficulty": "easy",
    "category": "any",
    "prompt": "How many?",
    "rubric": "four|4",
    "sources": [{"path": "notes.md", "quote": "There are four."}],
}


def written(path, *lines):
    path.write_bytes(
        b"\n".join(
            line if isinstance(line, bytes) else json.dumps(line, ensure_ascii=False).encode()
            for line in lines
        )
    )
    return path


def test_a_file_is_read_in_its_order(tmp_path):
    second = GOOD | {"id": "second", "prompt": "Σ?"}
    path = written(tmp_path / "mine.jsonl", GOOD, b"", b"  ", second)
    one, two = load_prompts(path)
    source = PromptSource("notes.md", "There are four.")
    assert one == Prompt("first-prompt", "easy", "any", "How many?", "four|4", (source,))
    assert (two.id, two.prompt) == ("second", "Σ?")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{", "not JSON in UTF-8"),
        (b'{"id": "\xff"}', "not JSON in UTF-8"),
        (b"[" * 100_000, "not JSON in UTF-8"),
        ([GOOD], "a prompt must be an object"),
        ({}, "a prompt must have the fields id, .*; got none"),
        ({k: v for k, v in GOOD.items() if k != "rubric"}, "a prompt must have the fields"),
        (GOOD | {"answer": "4"}, "a prompt must have the fields .*; got .*answer"),
        (GOOD, "id 'first-prompt' is there twice"),
        (GOOD | {"id": "Two Words"}, "id must be lower-case words joined by hyphens"),
        (GOOD | {"id": 3}, "id must be a text"),
        (GOOD | {"difficulty": "harder"}, "difficulty must be one of smoke, easy, medium, hard"),
        (GOOD | {"category": ""}, "category must be a text"),
        (GOOD | {"prompt": "  "}, "prompt must be a text"),
        (GOOD | {"prompt": None}, "prompt must be a text"),
        (GOOD | {"rubric": ""}, "rubric must be a text"),
        (GOOD | {"rubric": "a,,b"}, "rubric must be keys separated by commas"),
        (GOOD | {"sources": []}, "sources must hold at least one source"),
        (GOOD | {"sources": "notes.md"}, "sources must be a list"),
        (GOOD | {"sources": ["notes.md"]}, "a source must be an object"),
        (GOOD | {"sources": [{"path": "notes.md"}]}, "a source must have the fields path, quote"),
        (GOOD | {"sources": [{"path": "notes.md", "quote": ""}]}, "quote of a source must be"),
        (GOOD | {"sources": [{"path": 1, "quote": "a"}]}, "path of a source must be"),
        (GOOD | {"sources": [{"path": "../a", "quote": "a"}]}, "must lead below the project"),
        (GOOD | {"sources": [{"path": "/etc/passwd", "quote": "r"}]}, "must lead below"),
    ],
)
def test_a_bad_line_is_named(line, words, tmp_path):
    changed = isinstance(line, dict) and line.get("id") == GOOD["id"] and line != GOOD
    line = line | {"id": "other"} if changed else line
    path = written(tmp_path / "mine.jsonl", GOOD, b"", line)
    with pytest.raises(ValueError, match=rf"mine\.jsonl, line 3: .*{words}") as caught:
        load_prompts(path)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("contents", [b"", b"\n \n"])
def test_a_file_without_prompts_is_refused(contents, tmp_path):
    path = written(tmp_path / "mine.jsonl", contents)
    with pytest.raises(ValueError, match=r"mine\.jsonl must hold at least one prompt"):
        load_prompts(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        load_prompts(tmp_path / "absent.jsonl")


def test_sources_that_do_not_resolve_are_listed(tmp_path):
    (tmp_path / "notes.md").write_text("There are\nfour.", encoding="utf-8")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff\xfe")
    (tmp_path / "folder").mkdir()
    sources = [
        {"path": "notes.md", "quote": "are\nfour"},
        {"path": "notes.md", "quote": "are four"},
        {"path": "absent.md", "quote": "four"},
        {"path": "image.png", "quote": "PNG"},
        {"path": "folder", "quote": "four"},
    ]
    prompts = load_prompts(written(tmp_path / "mine.jsonl", GOOD | {"sources": sources}))
    found = unresolved(prompts, tmp_path)
    assert [(each.id, each.source.path) for each in found] == [
        ("first-prompt", path) for path in ("notes.md", "absent.md", "image.png", "folder")
    ]
    assert found[0].reason == "the file does not hold the quote"
    assert {each.reason for each in found[1:]} == {"there is no such text file"}


def test_a_changed_document_is_noticed(tmp_path):
    for source in {source.path for prompt in PROMPTS for source in prompt.sources}:
        copy = tmp_path / source
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text((ROOT / source).read_text(encoding="utf-8"), encoding="utf-8")
    serving = tmp_path / "docs" / "serving.md"
    serving.write_text(serving.read_text(encoding="utf-8").replace("11434", "8080"), "utf-8")
    assert [each.id for each in unresolved(PROMPTS, tmp_path)] == ["server-port"]
