"""Files are whole or not there, checks can fail, pages stand alone, figures have their labels."""

import base64
import errno
import io
import re
from html.parser import HTMLParser

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from sigma_jax import report

# Files ------------------------------------------------------------------------------------------


def full_disk(partial):
    partial.write_text("half of it")
    raise OSError(errno.ENOSPC, "No space left on device")


def broken_writer(partial):
    partial.write_text("half of it")
    raise RuntimeError("a bug in the writer")


def test_what_is_written_is_there(tmp_path):
    path = report.write_text(tmp_path / "new" / "folder" / "a.txt", "σ = 0.15\n")
    assert path.read_text(encoding="utf-8") == "σ = 0.15\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]
    assert path.stat().st_mode & 0o777 == 0o644
    report.write_text(path, "again")
    assert path.read_text() == "again"


@pytest.mark.parametrize("previous", [None, "what was there before"])
def test_a_full_disk_leaves_nothing_behind(tmp_path, previous):
    path = tmp_path / "result.txt"
    if previous is not None:
        path.write_text(previous)
    with pytest.raises(OSError, match="No space left on device") as error:
        report.write_whole(path, full_disk)
    assert error.value.errno == errno.ENOSPC
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ([] if previous is None else [path.name])
    if previous is not None:
        assert path.read_text() == previous


def test_a_writer_that_breaks_leaves_nothing_behind(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("before")
    with pytest.raises(RuntimeError, match="a bug in the writer"):
        report.write_whole(path, broken_writer)
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.txt"]
    assert path.read_text() == "before"


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=re.escape(f"cannot write {tmp_path / 'file' / 'a.txt'}")):
        report.write_text(tmp_path / "file" / "a.txt", "text")


def test_the_writer_sees_the_name_s_ending(tmp_path):
    seen = []
    report.write_whole(tmp_path / "a.nc", lambda p: seen.append(p.suffix) or p.write_bytes(b"x"))
    assert seen == [".nc"]


# Checks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "passed"),
    [(1.0, True), (1.1, True), (0.9, True), (1.1001, False), (np.nan, False), (np.inf, False)],
)
def test_a_check_passes_within_its_tolerance(value, passed):
    assert report.Check("one", value, 1.0, 0.1 + 1e-12).passed is passed


def test_nan_fails_even_where_nothing_else_would():
    assert not report.Check("nan", np.nan, np.nan, np.inf).passed


def test_the_table_says_what_passed():
    good = report.Check("good", 1.0, 1.0, 0.0)
    lines = report.checks_table([good, good]).splitlines()
    assert lines[-1] == "ALL CHECKS PASSED"
    assert [line.endswith("ok") for line in lines[1:-1]] == [True, True]


def test_the_table_names_what_failed():
    checks = [
        report.Check("a good one", 1.0, 1.0, 0.0),
        report.Check("off", 2.0, 1.0, 0.5),
        report.Check("no number", np.nan, 1.0, 0.5),
    ]
    lines = report.checks_table(checks).splitlines()
    assert lines[-1] == "CHECKS FAILED: off; no number"
    assert [line.endswith("FAILED") for line in lines[1:-1]] == [False, True, True]
    assert "nan" in lines[3]
    assert "ALL CHECKS PASSED" not in "\n".join(lines)


# Pages ------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def page():
    figure, axes = plt.subplots(figsize=(2, 1))
    axes.plot([0, 1], [0, 1])
    sections = [
        report.Section("A <figure> & more", 'σ < 0.15 & "quoted"', figure=figure),
        report.Section("Table", "What.", table=(["na<me", "ok"], [["x&y", "FAILED"], ["z", "1"]])),
    ]
    return report.render_page("Title <1>", "lead & all", sections, "foot <er>")


def parsed(page):
    parser = Tags()
    parser.feed(page)
    return parser


def test_a_page_fetches_nothing(page):
    for tag, attributes in parsed(page).tags:
        assert tag not in {"script", "link", "iframe"}
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page


def test_a_page_embeds_its_figures(page):
    (source,) = [attributes["src"] for tag, attributes in parsed(page).tags if tag == "img"]
    kind, data = source.split(",", 1)
    assert kind == "data:image/png;base64"
    image = matplotlib.image.imread(io.BytesIO(base64.b64decode(data, validate=True)))
    assert image.shape[:2] == (150, 300)
    assert image[..., :3].min() < 0.9  # something is drawn
    assert not plt.get_fignums()


def test_a_page_escapes_what_it_is_given(page):
    text = parsed(page).text
    for said in ("Title <1>", "lead & all", "A <figure> & more", 'σ < 0.15 & "quoted"'):
        assert said in text
    for said in ("na<me", "x&y", "foot <er>"):
        assert said in text
    assert "<figure> & more" not in page
    (alt,) = [attributes["alt"] for tag, attributes in parsed(page).tags if tag == "img"]
    assert alt == "A <figure> & more"


def test_a_page_is_a_document(page):
    tags = [tag for tag, _ in parsed(page).tags]
    assert page.startswith("<!doctype html>")
    assert tags.count("html") == tags.count("title") == tags.count("h1") == 1
    assert tags.count("h2") == 2
    assert [a.get("class") for tag, a in parsed(page).tags if tag == "td"] == [
        None,
        "failed",
        None,
        None,
    ]


# Arrays -----------------------------------------------------------------------------------------


def dataset(count):
    return report.labelled_dataset(
        {
            "sigma": (("regime", "time"), np.array([[0.1, 0.2], [0.3, np.nan]]), "coherence"),
            "steps": (("regime",), np.asarray(count), "steps taken"),
        },
        {"regime": ["baseline", "targeted"], "time": np.array([0.0, 0.25])},
        {"title": "σ over time"},
    )


def test_arrays_survive_a_file(tmp_path):
    made = dataset([12, 40])
    path = report.write_netcdf(tmp_path / "a.nc", made)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nc"]
    assert path.read_bytes()[:3] == b"CDF"
    read = xr.load_dataset(path, engine="scipy")
    np.testing.assert_array_equal(read.sigma, made.sigma)
    np.testing.assert_array_equal(read.steps, [12, 40])
    assert read.sigma.dims == ("regime", "time")
    assert read.sigma.attrs["long_name"] == "coherence"
    assert read.attrs["title"] == "σ over time"
    assert [str(name) for name in read.regime.values] == ["baseline", "targeted"]
    np.testing.assert_array_equal(read.time, [0.0, 0.25])


def test_a_number_that_the_format_cannot_hold_is_refused(tmp_path):
    with pytest.raises(ValueError, match="int32"):
        report.write_netcdf(tmp_path / "a.nc", dataset([2**40, 1]))
    assert not list(tmp_path.iterdir())


def test_an_array_that_does_not_fit_its_labels_is_refused():
    with pytest.raises(ValueError, match="dimension"):
        report.labelled_dataset({"x": (("time",), np.zeros((2, 2)), "x")}, {}, {})


# Figures ----------------------------------------------------------------------------------------

TIMES = np.linspace(0.0, 60.0, 121)


def arc():
    values = {name: np.linspace(0.1, 0.9, 121) for name in ("delta_rel", "sigma", "alpha")}
    return values | {"phase": np.repeat([0, 1, 2], [20, 40, 61])}


def arc_figure():
    arcs = {model: {r: arc() for r in ("targeted", "withdrawn")} for model in ("one", "two")}
    return report.arc_figure(TIMES, arcs, 0.15, 40.0)


def bifurcation_figure():
    r0 = np.linspace(0.5, 1.5, 11)
    stable = np.where(r0 > 1, 1 - 1 / r0, np.nan)
    panel = {
        "r0": r0,
        "stable": stable,
        "unstable": np.full(11, np.nan),
        "branch_r0": r0,
        "up": np.nan_to_num(stable),
        "down": np.nan_to_num(stable),
    }
    return report.bifurcation_figure({"one": panel, "two": panel})


def phase_portrait_figure():
    alpha, sigma = np.linspace(0.0, 1.0, 12), np.linspace(0.0, 1.0, 12)
    a, s = np.meshgrid(alpha, sigma)
    panel = {
        "d_alpha": 0.5 - a,
        "d_sigma": s * (0.4 - s),
        "stable": np.array([[0.5, 0.4]]),
        "unstable": np.zeros((0, 2)),
        "paths": [np.array([[0.1, 0.1], [0.4, 0.3]])],
    }
    return report.phase_portrait_figure(alpha, sigma, dict.fromkeys("abcd", panel))


def fit_figure():
    epoch = np.linspace(0.2, 8.0, 10)
    measured = np.tile(0.4 + 0.05 * epoch, (3, 1))
    measured[0, 0] = np.nan
    panel = {"epoch": epoch, "sigma_hat": measured, "fits": {"constant": (epoch, measured[1])}}
    return report.fit_figure({"baseline": panel, "additive": panel})


def measured_phases_figure():
    phases = {name: np.array([[0, 1, 2, 3], [0, 0, 2, 2]]) for name in ("baseline", "additive")}
    return report.measured_phases_figure(np.arange(4.0), {"rule": phases, "other": phases})


def sweep_figure():
    return report.sweep_figure(np.arange(5.0), np.arange(5.0), ("R₀", "σ (share of one)"))


@pytest.mark.parametrize(
    ("make", "panels", "x", "y"),
    [
        (arc_figure, 4, "time (epochs)", "value (share of one)"),
        (bifurcation_figure, 2, "R_0", "sigma"),
        (phase_portrait_figure, 4, "alpha", "sigma"),
        (fit_figure, 2, "time (epochs)", "sigma"),
        (measured_phases_figure, 4, "time (epochs)", "share of runs"),
        (sweep_figure, 1, "R₀", "σ (share of one)"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_every_figure_has_labelled_axes(make, panels, x, y):
    before = dict(plt.rcParams)
    figure = make()
    try:
        assert isinstance(figure, Figure)
        assert len(figure.axes) == panels
        grid = figure.axes[0].get_gridspec()
        for axes in figure.axes:
            place = axes.get_subplotspec()
            assert axes.has_data()
            if place.is_last_row():
                assert x in axes.get_xlabel()
            if place.is_first_col():
                assert y in axes.get_ylabel()
            if panels > 1:
                assert axes.get_title()
        assert grid.nrows * grid.ncols == panels
        figure.savefig(io.BytesIO(), format="png", dpi=40)  # it can be drawn, without a warning
        assert dict(plt.rcParams) == before
    finally:
        plt.close(figure)


def test_figures_draw_what_they_are_given():
    figure = sweep_figure()
    (line,) = figure.axes[0].get_lines()
    np.testing.assert_array_equal(line.get_xydata(), np.tile(np.arange(5.0)[:, None], 2))
    plt.close(figure)
    figure = arc_figure()
    drawn = {line.get_label(): line for line in figure.axes[0].get_lines()}
    (sigma,) = [line for label, line in drawn.items() if "coherence" in label]
    np.testing.assert_array_equal(sigma.get_ydata(), arc()["sigma"])
    (critical,) = [line for label, line in drawn.items() if "critical" in label]
    np.testing.assert_array_equal(critical.get_ydata(), [0.15, 0.15])
    plt.close(figure)
