"""The conversations' experiment as a user runs it: outputs, what is compared, bad input."""

import csv
import json
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from experiments.converse import run_converse
from experiments.converse_results import Compared, mean_interval
from sigma_jax.runtime import (
    ARMS,
    Message,
    SimulatedModel,
    load_scenario,
    render,
    run_arm,
    score_scenario,
)
from tests.experiments.small_configuration import composed

SMALL = ["seeds=2", "workers=1", "replicas=100", "turns=50", "lost_at=30"]
SMALL += ["arms=[static prompt,full history,runtime,minus regeneration]"]
SMALL += ["detection.conversations=1", "detection.happens=20"]
configure = partial(composed, "converse", SMALL)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output = tmp_path_factory.mktemp("converse")
    passed = run_converse(configure(), output)
    return output, passed, json.loads((output / "summary.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_run_writes_its_numbers_and_a_page(finished):
    output, passed, summary = finished
    assert passed
    assert summary["all_checks_passed"]
    assert summary["failures"] == dict.fromkeys(summary["arms"], 0)
    page = (output / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image") == 4
    assert all(sentence[:40] in page for sentence in summary["conclusion"])


@pytest.mark.slow
def test_a_row_is_what_the_arm_does_by_itself(finished):
    output, _, summary = finished
    with (output / "results.csv").open(encoding="utf-8") as file:
        rows = {(row["arm"], int(row["seed"])): row for row in csv.DictReader(file)}
    assert len(rows) == 8
    scenario = load_scenario()
    run = run_arm(ARMS[3], scenario, SimulatedModel(seed=1), turns=50)
    score = score_scenario(scenario, run.replies)
    row = rows["static prompt", 1]
    assert float(row["violations"]) == pytest.approx(score.violations_per_100_turns, rel=1e-5)
    assert float(row["tokens"]) == pytest.approx(sum(run.sent_tokens) / 1000, rel=1e-5)
    both = [float(rows["static prompt", seed]["violations"]) for seed in (0, 1)]
    assert summary["arms"]["static prompt"]["violations"][0] == pytest.approx(
        np.mean(both), rel=1e-5
    )


@pytest.mark.slow
def test_the_runtime_is_compared_where_it_wins_and_where_it_does_not(finished):
    _, _, summary = finished
    compared = {(each["arm"], each["metric"]): each for each in summary["compared"]}
    assert compared["static prompt", "violations"]["difference"] < 0
    assert compared["minus regeneration", "calls"]["difference"] > 0
    assert compared["full history", "tokens"]["difference"] < 0
    for each in compared.values():
        assert each["low"] <= each["difference"] <= each["high"]
        assert each["adjusted"] >= each["p_value"] - 1e-12
    assert {each["case"] for each in summary["detection"]} >= {"abrupt loss", "obedient style"}


def test_a_verdict_needs_the_interval_and_the_adjusted_p_value():
    def verdict(metric, low, high, adjusted):
        return Compared("x", metric, (low + high) / 2, low, high, 0.0, adjusted, 9).verdict

    assert verdict("recall", 0.1, 0.3, 0.01) == "better"
    assert verdict("tokens", 0.1, 0.3, 0.01) == "worse"
    assert verdict("violations", -3.0, -1.0, 0.01) == "better"
    assert verdict("recall", 0.1, 0.3, 0.2) == "undecided"
    assert verdict("recall", -0.1, 0.3, 0.01) == "undecided"
    assert verdict("recall", 0.0, 0.0, 1.0) == "the same"


def test_an_interval_of_a_mean_is_students():
    mean, low, high = mean_interval(np.array([1.0, 2.0, 3.0]))
    assert (mean, high - mean) == pytest.approx((2.0, 4.302653 / 3**0.5), rel=1e-6)
    assert mean - low == pytest.approx(high - mean)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["arms=[window,nothing]"], "arms must be some of"),
        (["arms=[window]"], "arms must hold runtime"),
        (["seeds=0"], "seeds must be at least 1; got 0"),
        (["workers=0"], "workers must be at least 1; got 0"),
        (["model=parrot"], "model must be simulated or openai; got 'parrot'"),
        (["model=openai", "model_name=m"], "model=openai needs url=…; got None"),
        (["scenario=nowhere.json"], "nowhere.json is not a scenario"),
    ],
)
def test_bad_input(tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message):
        run_converse(configure(*overrides), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def served():
    """A simulated model behind an OpenAI-compatible address, and how often it was asked."""
    model, asked = SimulatedModel(), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(self.path)
            said = [Message(each["role"], each["content"]) for each in given["messages"]]
            choice = {"message": {"content": model(render(said))}, "finish_reason": "stop"}
            body = json.dumps({"choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *about):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_a_model_behind_http_is_led_the_same_way_without_the_study_of_detection(served, tmp_path):
    url, asked = served
    live = ["model=openai", f"url='{url}'", "model_name=m", "seeds=1", "turns=12"]
    assert run_converse(configure(*live, "arms=[static prompt,runtime]"), tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    alone = run_arm(ARMS[3], load_scenario(), SimulatedModel(), turns=12)
    assert summary["arms"]["static prompt"]["tokens"][0] == sum(alone.sent_tokens) / 1000
    assert summary["detection"] == []
    assert len(asked) > 2 * 12 + 80
    assert not (tmp_path / "detection.csv").exists()
