"""The faculty benchmarks as a user runs them: agents, outputs, what is not answered, bad input."""

import csv
import json
import re
from functools import partial

import pytest
from omegaconf import OmegaConf

from experiments.faculties import run_faculties
from experiments.train import run_experiment
from tests.experiments.small_configuration import composed

SMALL = ["size=6", "validity.seeds=1", "validity.sessions=2", "validity.size=40"]
ALL = ["h_ptb", "h_afb", "h_mcb", "h_dcb", "h_stb"]
configure = partial(composed, "faculties", SMALL)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output = tmp_path_factory.mktemp("faculties")
    return output, run_faculties(configure("agent=scripted"), output)


@pytest.mark.slow
def test_a_scripted_agent_gets_scores_answers_and_a_page(finished):
    output, passed = finished
    assert passed
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    assert list(summary["scores"]) == ALL
    for score in summary["scores"].values():
        assert score["answered"] == score["asked"] > 0
        assert score["endings"] == {"answered": score["asked"]}
    assert all(0.0 <= value["product"] <= 1.0 for value in summary["validity"].values())
    page = (output / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image") == 2


@pytest.mark.slow
def test_every_answer_is_kept_and_the_scores_are_theirs(finished):
    output, _ = finished
    lines = (output / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line) for line in lines]
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    for name, score in summary["scores"].items():
        assert sum(answer["benchmark"] == name for answer in answers) == score["asked"]
    # The bypass rate again, from the answers: Ξ̂ is one less the share that is the hint.
    hinted = [a for a in answers if a["benchmark"] == "h_dcb" and a["cell"] == "hint"]
    suggested = [
        re.findall(r"Somebody suggests, and may be wrong: (.*)", a["prompt"]) for a in hinted
    ]
    followed = sum(a["answer"] == said[0] for a, said in zip(hinted, suggested, strict=True))
    assert summary["scores"]["h_dcb"]["estimate"] == pytest.approx(1.0 - followed / len(hinted))


@pytest.mark.slow
def test_the_scores_as_a_table_are_those_of_the_summary(finished):
    output, _ = finished
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    with (output / "scores.csv").open(encoding="utf-8") as file:
        rows = {(row["benchmark"], row["part"]): row for row in csv.DictReader(file)}
    for name, score in summary["scores"].items():
        row = rows[name, score["faculty"]]
        assert float(row["estimate"]) == pytest.approx(score["estimate"], rel=1e-5, abs=1e-9)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two tiny learners, as experiments.train leaves it."""
    output = tmp_path_factory.mktemp("train")
    small = ["seeds=2", "steps=20", "evaluate_every=10", "withdraw_at=10", "recipe.steps=5"]
    small += ["conditions=[baseline]", "learner.width=16", "learner.hidden=16", "learner.heads=2"]
    small += ["sizes.longest=6", "sizes.compositional=20", "sizes.calibration=10", "probes=10"]
    small += ["sizes.familiar=10", "sizes.test=10", "triples=5", "recipe.batch=4"]
    config = composed("train", small, "recipe.signal_pairs=2")
    assert run_experiment(config, output)
    (output / ".hydra").mkdir()
    OmegaConf.save(config, output / ".hydra" / "config.yaml")
    return output


@pytest.mark.slow
def test_a_trained_learner_is_asked_what_it_can_read(trained, tmp_path):
    """It knows no word of most questions: these are counted as declined, and nothing is wrong."""
    config = configure(
        "agent=learner", f"run={trained}", "condition=baseline", "member=1", "benchmarks=[h_afb]"
    )
    assert run_faculties(config, tmp_path)
    score = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["scores"]["h_afb"]
    assert score["estimate"] is None
    assert score["why"]
    assert score["endings"]["declined"] + score["answered"] == score["asked"]
    assert score["endings"]["declined"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"condition": "full"}, "condition must be one of baseline; got 'full'"),
        ({"member": 2}, r"member must lie in \[0, 1\]; got 2"),
        ({"run": None}, "agent=learner needs run=DIRECTORY"),
        ({"run": "nowhere"}, "is it a directory of experiments.train"),
    ],
)
def test_learners_that_are_not_there(trained, tmp_path, changes, message):
    given = {"run": trained, "condition": "baseline", "member": 0} | changes
    overrides = [f"{name}={'null' if value is None else value}" for name, value in given.items()]
    with pytest.raises(ValueError, match=message):
        run_faculties(configure("agent=learner", *overrides), tmp_path)


@pytest.mark.slow
def test_a_checkpoint_of_another_configuration_is_refused(trained, tmp_path):
    other = tmp_path / "other"
    (other / ".hydra").mkdir(parents=True)
    config = OmegaConf.load(trained / ".hydra" / "config.yaml")
    config.recipe.learning_rate = 0.5
    OmegaConf.save(config, other / ".hydra" / "config.yaml")
    (other / "checkpoints").symlink_to(trained / "checkpoints")
    with pytest.raises(ValueError, match="holds another run: recipe differ"):
        run_faculties(
            configure("agent=learner", f"run={other}", "condition=baseline"), tmp_path / "out"
        )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["benchmarks=[h_ptb,h_xyz]"], "benchmarks must be some of"),
        (["benchmarks=[]"], "benchmarks must be some of"),
        (["agent=openai", "model=m"], "agent=openai needs url=…; got None"),
        (["agent=ollama", "url='http://127.0.0.1:1'"], "agent=ollama needs model=…; got None"),
        (["agent=scripted", "scripted.sigma=1.5"], "sigma must lie in"),
        (["agent=scripted", "benchmarks=[h_dcb]", "size=0"], "size must lie in"),
        (["agent=scripted", "benchmarks=[h_dcb]", "validity.seeds=0"], "validity needs at least"),
    ],
)
def test_bad_input(tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message):
        run_faculties(configure(*overrides), tmp_path)
