"""Replies that are not to be gone on with, and many that are."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.runtime import MOST_BYTES, ReplyProblem, reply_problem

ENGLISH = (
    "The database is called Heron and it is run by the team in Lisbon. I have not seen the plan "
    "for next week yet, but it is ready and we will look at it in the days to come."
)
FOREIGN = {
    "de": "Die Datenbank heißt Heron und wird von dem Team in Lissabon betrieben. Ich habe den "
    "Plan für die nächste Woche noch nicht gesehen, aber er ist fertig und wir sehen ihn bald.",
    "fr": "La base de données s'appelle Heron et elle est gérée par l'équipe de Lisbonne. Je n'ai "
    "pas encore vu le plan pour la semaine prochaine, mais il est prêt et nous le verrons bientôt.",
    "es": "La base de datos se llama Heron y la gestiona el equipo de Lisboa. Todavía no he visto "
    "el plan para la próxima semana, pero está listo y lo veremos en los días que vienen.",
    "nl": "De database heet Heron en wordt beheerd door het team in Lissabon. Ik heb het plan voor "
    "volgende week nog niet gezien, maar het is klaar en wij zullen het snel bekijken.",
    "pl": "Baza danych nazywa się Heron i jest prowadzona przez zespół w Lizbonie. Nie widziałem "
    "jeszcze planu na przyszły tydzień, ale jest gotowy i zobaczymy go w dniach, które przyjdą.",
    "ru": "База данных называется Херон, и ею занимается команда в Лиссабоне.",
    "zh": "数据库叫做苍鹭，由里斯本的团队管理。我还没有看到下周的计划，但是它已经准备好了，"
    "我们会在接下来的几天里看一看。",
    "ar": "قاعدة البيانات اسمها مالك الحزين ويديرها الفريق في لشبونة منذ سنتين.",
}
FINE = {
    "English": ENGLISH,
    "short": "Oui, bien sûr.",
    "one word": "да",
    "names": "Anna Müller, José de la Cruz, Maria dos Santos, Jean de la Fontaine, Vincent van "
    "Gogh, Jan van Eyck, Otto von Bismarck, Ana da Silva, Luís de Camões, Leonardo da Vinci, "
    "Paolo, Chiara, Enzo, Ludwig van Beethoven, Hans von der Leyen",
    "code": "```python\nfor die in und:\n    der = das(nicht)\n```\n" * 10,
    "plain code": "def f(x):\n    return x * der_die_das\n" * 20,
    "JSON": json.dumps({"text": "der die das und ist nicht von mit auch auf ein eine " * 4}),
    "quotation": f"{ENGLISH} In German one says: die Datenbank heißt Heron und ist von dem Team.",
    "symbols": "数学 means mathematics, and 数据 means data; " + ENGLISH,
    "numbers": "12, 13, 14, 15 " * 30,
    "table": "| a | b |\n|---|---|\n| 1 | 2 |",
    "no stop": "Sure. Here is the list. Let me know if you need more",
    "a heading": "Here it is.\n\n## What to look for",
    "a list": "Two ways. Choose one:\n- the first\n- one for the",
    "a fence and words": "Run it.\n```\nls\n```\nThat is all.",
    "a title": "The one I was looking for",
    "an emoji": "Done. 🙂",
}


@pytest.mark.parametrize("text", FINE.values(), ids=FINE)
def test_what_is_fine_has_no_problem(text):
    assert reply_problem(text) is None


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b\ufeff\u2060", "\x00"])
def test_nothing_to_see_is_empty(text):
    assert reply_problem(text, finish_reason="length") is ReplyProblem.EMPTY


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN)
def test_other_languages_are_noticed(text):
    assert reply_problem(text) is ReplyProblem.OTHER_LANGUAGE
    assert reply_problem(text, expected_language=None) is None
    assert reply_problem(f"{text}\n{ENGLISH}\n{ENGLISH}") is None


@pytest.mark.parametrize(
    "text",
    [
        "It is called Heron. It belongs to the",
        "It is called Heron. It belongs to Ann,",
        "Here it is:\n```python\nx = 1\n",
        "It works. I think that it is\n",
    ],
)
def test_what_breaks_off_is_truncated_unless_the_model_says_that_it_stopped(text):
    assert reply_problem(text) is ReplyProblem.TRUNCATED
    assert reply_problem(text, finish_reason="stop") is None


def test_the_models_word_counts():
    assert reply_problem("It is done.", finish_reason="length") is ReplyProblem.TRUNCATED
    assert reply_problem("It is done.", finish_reason="stop") is None


def test_bytes_are_counted_not_characters():
    assert reply_problem("é" * 10, most_bytes=20) is None
    assert reply_problem("é" * 10, most_bytes=19) is ReplyProblem.OVERSIZED
    assert reply_problem("a " * MOST_BYTES, finish_reason="length") is ReplyProblem.OVERSIZED


@given(st.integers(0, 400))
def test_a_cut_through_english_is_never_another_language(place):
    assert reply_problem((ENGLISH * 3)[:place], finish_reason="stop") in (None, ReplyProblem.EMPTY)


@given(st.text(max_size=300), st.sampled_from([None, "stop", "length", "other"]))
def test_any_text_has_an_answer(text, reason):
    problem = reply_problem(text, finish_reason=reason)
    assert problem is None or isinstance(problem, ReplyProblem)
    assert (problem is ReplyProblem.EMPTY) >= (not text.strip())


@pytest.mark.parametrize("most_bytes", [MOST_BYTES, 10**8])
@pytest.mark.parametrize(
    "piece", ["Hello there, friend. ", " ", "```\n", "a", "/", "`", "[", "数", "@a", "~~~ \n", "* "]
)
def test_five_megabytes_take_less_than_a_second(piece, most_bytes):
    text = piece * (5 * 10**6 // len(piece.encode()))
    start = time.perf_counter()
    problem = reply_problem(text, most_bytes=most_bytes)
    assert time.perf_counter() - start < 1
    if most_bytes == MOST_BYTES:
        assert problem is (ReplyProblem.OVERSIZED if text.strip() else ReplyProblem.EMPTY)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="expected_language must be 'en' or None; got 'de'"):
        reply_problem("a", expected_language="de")
    with pytest.raises(ValueError, match="most_bytes must lie in"):
        reply_problem("a", most_bytes=0)
