"""Bad input ends in one clear line that names what was given and what is allowed."""

import dataclasses
import importlib.resources

import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax import schema, solvers

RATES = [field.name for field in dataclasses.fields(schema.Rates)]
SIGNALS = [field.name for field in dataclasses.fields(schema.Conditions)]
THRESHOLDS = [field.name for field in dataclasses.fields(schema.Thresholds)]


def one_line(error) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


# Numbers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("value", [-1e-3, np.array([0.1, -0.1])])
def test_a_negative_rate_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"^rates\.{name} must lie in \[0, ") as error:
        schema.Rates(**{name: value})
    assert "-0.1" in one_line(error) or "-0.001" in one_line(error)


@pytest.mark.parametrize("name", SIGNALS)
def test_a_negative_condition_is_refused(name):
    with pytest.raises(ValueError, match=rf"^environment\.{name} must lie in"):
        schema.Environment(**{name: -0.5})


@pytest.mark.parametrize("name", THRESHOLDS)
def test_a_negative_threshold_is_refused(name):
    with pytest.raises(ValueError, match=rf"^thresholds\.{name} must lie in .* got -0\.1"):
        schema.Thresholds(**{name: -0.1})


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda v: schema.Rates(rho=v), "rates.rho"),
        (lambda v: schema.Rates(gompertz_b=v), "rates.gompertz_b"),
        (lambda v: schema.Environment(p_a=v), "environment.p_a"),
        (lambda v: schema.Thresholds(delta_star=v), "thresholds.delta_star"),
        (lambda v: schema.initial_state(sigma=v), "sigma"),
        (lambda v: schema.initial_state(delta=v), "delta"),
        (lambda v: schema.initial_state(frontier=v), "frontier"),
        (lambda v: schema.initial_state(breadth=v), "breadth"),
        (lambda v: schema.FrontierGrowth(rate=v), "frontier.rate"),
    ],
)
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("-3e-3", "is the text '-3e-3', not a number"),
        ("0.5", "is the text '0.5', not a number"),
        (np.nan, "must not contain NaN"),
        (np.array([0.1, np.nan]), "must not contain NaN"),
        (True, "must be a number"),
        ({"a": 1.0}, "must be a number"),
    ],
)
def test_what_is_no_number_is_named_as_such(make, name, value, said):
    with pytest.raises(ValueError, match=rf"^{name} ") as error:
        make(value)
    assert said in one_line(error)


def test_a_text_from_yaml_is_explained():
    with pytest.raises(ValueError, match="YAML") as error:
        schema.Rates(gompertz_b="-3e-3")
    assert "-3.0e-3" in one_line(error)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: schema.Rates(decay_protection=1.5), r"rates\.decay_protection .*\[0, 1\].* 1\.5"),
        (lambda: schema.Environment(r_a=1.1), r"environment\.r_a .*\[0, 1\].* 1\.1"),
        (lambda: schema.Environment(frontier=0.0), r"environment\.frontier .*\(0, inf\).* 0"),
        (
            lambda: schema.Environment(domain_similarity=np.array([[1.0, 2.0], [2.0, 1.0]])),
            r"environment\.domain_similarity .*\[0, 1\]",
        ),
        (lambda: schema.Environment(modality_similarity=1.5), r"environment\.modality_similarity"),
        (lambda: schema.PrincipledPractice(p0=-1.0), "p0"),
        (lambda: schema.PrincipledPractice(p0=1.0, fraction=1.5), r"fraction .*\[0, 1\]"),
        (lambda: schema.AnalogicalTransfer(1.0, 0.0, jnp.eye(2)), r"half_saturation .*\(0, inf\)"),
        (lambda: schema.RetrievalPractice(1.5, 1.0, 1.0), r"r_max .*\[0, 1\]"),
        (lambda: schema.RetrievalPractice(0.5, 1.0, 0.0), r"period .*\(0, inf\)"),
        (lambda: schema.FrontierGrowth(start=0.0), r"frontier\.start"),
        (lambda: schema.FrontierGrowth(start=2.0, ceiling=1.0), r"frontier\.ceiling"),
        (lambda: schema.first_passage(jnp.zeros(3), 0.0), "noise"),
        (lambda: schema.first_passage(jnp.zeros(3), 0.1, dwell=0), "dwell"),
    ],
)
def test_numbers_outside_their_range_are_refused(make, match):
    with pytest.raises(ValueError, match=match) as error:
        make()
    one_line(error)


# The initial state ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["sigma", "alpha", "self_model", "planning", "inhibition", "flexibility"]
)
@pytest.mark.parametrize("value", [-0.01, 1.01])
def test_a_state_outside_its_box_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must lie in \[0, 1\]; got {value}"):
        schema.initial_state(**{name: value})


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"delta": 1.2}, "delta must not exceed the frontier 1.0; got 1.2"),
        ({"delta": 0.6, "frontier": 0.5}, "delta must not exceed the frontier 0.5"),
        ({"delta": -0.1}, "delta must lie in"),
        ({"frontier": 0.0}, r"frontier must lie in \(0, inf\); got 0"),
        ({"breadth": -0.1}, "breadth must lie in"),
        ({"agents": 0}, "agents must be at least 1; got 0"),
        ({"domains": 0}, "domains must be at least 1; got 0"),
        ({"modalities": -1}, "modalities must be at least 1; got -1"),
    ],
)
def test_impossible_starts_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match) as error:
        schema.initial_state(**arguments)
    one_line(error)


def test_no_coherence_is_legal_and_stays_exactly_zero():
    y0 = schema.initial_state(sigma=0.0)
    model = schema.sigma_model(environment=schema.regime("targeted"))
    run = solvers.simulate(model, y0, np.linspace(0.0, 50.0, 11), method=solvers.FixedStep(10))
    assert np.all(run.ys.sigma == 0.0)
    assert float(run.ys.delta[-1, 0, 0, 0]) > 0.9


# Names ------------------------------------------------------------------------------------------


def test_an_unknown_variant_lists_the_names():
    with pytest.raises(ValueError, match="unknown variant 'consistant'") as error:
        schema.sigma_model("consistant")
    assert all(name in one_line(error) for name in schema.VARIANTS)


def test_an_unknown_regime_lists_the_names():
    with pytest.raises(ValueError, match="unknown regime 'targetted'") as error:
        schema.regime("targetted")
    assert all(name in one_line(error) for name in schema.REGIMES)


def test_an_unknown_explanation_lists_the_names():
    curves = schema.load_pilot()["baseline"]
    with pytest.raises(ValueError, match="unknown explanation 'magic'") as error:
        schema.fit_pilot(curves, "magic")
    assert all(name in one_line(error) for name in schema.EXPLANATIONS)


def test_an_onset_is_not_invented():
    with pytest.raises(ValueError, match="condition 'baseline' has no onset"):
        schema.fit_pilot(schema.load_pilot()["baseline"], "onset")


# Schedules and phases ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "values", "match"),
    [
        ((1.0,), (0.0,), "one more value than times; got 1 times and 1 values"),
        ((), (0.0, 1.0), "got 0 times and 2 values"),
        ((2.0, 1.0), (0.0, 1.0, 2.0), r"times must increase; got \(2.0, 1.0\)"),
        ((1.0, 1.0), (0.0, 1.0, 2.0), "times must increase"),
    ],
)
def test_a_switch_that_does_not_fit_is_refused(times, values, match):
    with pytest.raises(ValueError, match=match):
        schema.Switch(times, values)


def test_a_ramp_needs_time():
    with pytest.raises(ValueError, match=r"t1 > t0; got t0 = 2\.0 and t1 = 2\.0"):
        schema.Ramp(2.0, 2.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"dwell": 0}, "dwell must be at least 1 sample; got 0"),
        ({"reverse_dwell": 0}, "reverse_dwell must be at least 1 sample; got 0"),
        ({"start": 6}, "start must be a phase from 0 to 5; got 6"),
        ({"start": -1}, "start must be a phase from 0 to 5; got -1"),
    ],
)
def test_phases_refuse_what_makes_no_sense(arguments, match):
    margins = schema.Margins(forward=jnp.zeros((3, 5)), reverse=jnp.zeros((3, 5)))
    with pytest.raises(ValueError, match=match):
        schema.follow_phases(margins, **arguments)


def test_transitions_are_of_one_agent():
    with pytest.raises(ValueError, match="one agent"):
        schema.transitions(jnp.arange(3.0), jnp.zeros((3, 2), int))
    with pytest.raises(ValueError, match="one agent; got 2"):
        schema.phase_transitions(schema.sigma_model(), schema.initial_state(2), 0.0, 1.0)
    with pytest.raises(ValueError, match="t1 must exceed t0"):
        schema.phase_transitions(schema.sigma_model(), schema.initial_state(), 1.0, 1.0)


@pytest.mark.parametrize(
    ("r0", "seed", "match"), [([0.5, 0.0], 1e-3, "r0 must lie"), ([0.5], 1.5, "seed must lie")]
)
def test_a_sweep_of_r0_refuses_what_makes_no_sense(r0, seed, match):
    with pytest.raises(ValueError, match=match):
        schema.quasi_static_sweep(schema.sigma_model(), np.array(r0), seed=seed)


# The pilot's file -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published():
    packaged = importlib.resources.files("sigma_jax.schema") / "data/sigma_pilot_curves.csv"
    return packaged.read_text()


def assert_refused(path, *said, kind=ValueError):
    with pytest.raises(kind) as error:
        schema.load_pilot(path)
    message = one_line(error)
    assert str(path) in message
    for part in said:
        assert part in message


def test_a_missing_pilot_is_named(tmp_path):
    assert_refused(tmp_path / "none.csv", "no such file", kind=FileNotFoundError)
    assert_refused(tmp_path, "no such file", kind=FileNotFoundError)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: "", "lacks the columns"),
        (lambda text: text.splitlines()[0] + "\n", "lacks the columns"),
        (lambda text: text.replace("acc_ood", "ood"), "lacks the columns acc_ood"),
        (lambda text: "\n".join(text.splitlines()[:1000]), "is truncated"),
        (lambda text: text[: text.rindex(",")].rsplit(",", 2)[0], "a cell is not a number"),
        (lambda text: text.replace("93.9905", "93.99o5"), "a cell is not a number"),
        (lambda text: text.replace("baseline,3,50,", "baseline,3,51,"), "different checkpoints"),
        (lambda text: "<html>404: Not Found</html>\n<p>", "lacks the columns"),
    ],
    ids=["empty", "only a head", "a column", "half", "last line", "a cell", "a step", "a page"],
)
def test_a_spoiled_pilot_is_refused(tmp_path, published, spoil, said):
    path = tmp_path / "pilot.csv"
    path.write_text(spoil(published))
    assert_refused(path, said)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x01" * 100, b"\x89PNG\r\n\x1a\n" * 50])
def test_a_file_that_is_no_text_is_refused(tmp_path, content):
    path = tmp_path / "pilot.csv"
    path.write_bytes(content)
    assert_refused(path)


def test_a_whole_copy_of_the_pilot_is_read(tmp_path, published):
    path = tmp_path / "copy.csv"
    path.write_text(published)
    copy, packaged = schema.load_pilot(path), schema.load_pilot()
    for name in schema.CONDITIONS:
        np.testing.assert_array_equal(copy[name].sigma_hat, packaged[name].sigma_hat)
