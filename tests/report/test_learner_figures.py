"""Curves of coupled learners: means, ranges, gaps, a panel a condition."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest

from sigma_jax import report

STEPS = np.array([10.0, 20.0, 30.0])
VALUES = np.array([[0.1, 0.2, 0.3], [0.3, 0.6, 0.9]])
NAMES = [f"condition {number}" for number in range(7)]


@pytest.fixture
def figure():
    panels = {
        name: [
            report.LearnerCurve(STEPS, VALUES * 0.1 * at, "test"),
            report.LearnerCurve(STEPS, VALUES, "familiar"),
            report.LearnerCurve(STEPS, np.array([[np.nan, 0.5, np.nan], [np.nan, 0.7, 0.4]]), "σ̂"),
        ]
        for at, name in enumerate(NAMES)
    }
    made = report.learners_figure(
        panels,
        "exact match (share)",
        reference=report.LearnerCurve(STEPS, VALUES * 0.5, "baseline, test"),
        marks={NAMES[0]: 15.0, NAMES[1]: np.inf},
        level=0.15,
    )
    yield made
    plt.close(made)


def lines(panel):
    return {line.get_label(): line for line in panel.get_lines()}


def test_every_condition_has_a_panel_with_its_curves(figure):
    shown = [panel for panel in figure.axes if panel.get_visible()]
    assert [panel.get_title() for panel in shown] == NAMES
    assert len(figure.axes) == 10
    for at, panel in enumerate(shown):
        drawn = lines(panel)
        np.testing.assert_allclose(drawn["test"].get_ydata(), np.array([0.2, 0.4, 0.6]) * 0.1 * at)
        np.testing.assert_allclose(drawn["familiar"].get_xydata()[:, 0], STEPS)
        np.testing.assert_allclose(drawn["baseline, test"].get_ydata(), [0.1, 0.2, 0.3])
        # The range over the seeds, for each line.
        assert len(panel.collections) == 4
    (low, high) = shown[0].collections[2].get_paths()[0].get_extents().intervaly
    assert (low, high) == pytest.approx((0.1, 0.9))


def test_what_is_not_known_is_a_gap(figure):
    points = lines(figure.axes[0])["σ̂"]
    np.testing.assert_allclose(points.get_xydata(), [[20.0, 0.6], [30.0, 0.4]])


def test_marks_and_the_level_are_where_they_were_asked_for(figure):
    def upright(panel):
        return [
            line.get_xdata()[0]
            for line in panel.get_lines()
            if len(line.get_xdata()) == 2 and line.get_xdata()[0] == line.get_xdata()[1]
        ]

    assert upright(figure.axes[0]) == [15.0]
    assert upright(figure.axes[1]) == upright(figure.axes[2]) == []  # infinite, or not given
    for panel in figure.axes[:7]:
        assert any(list(line.get_ydata()) == [0.15, 0.15] for line in panel.get_lines())


def test_its_axes_and_legend_are_labelled(figure):
    grid = np.array(figure.axes).reshape(2, 5)
    assert [panel.get_ylabel() for panel in grid[:, 0]] == ["exact match (share)"] * 2
    # The last panel of every column names the steps, also where the row below is empty.
    assert [panel.get_xlabel() for panel in grid[1, :2]] == ["step"] * 2
    assert [panel.get_xlabel() for panel in grid[0, 2:]] == ["step"] * 3
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["baseline, test", "test", "familiar", "σ̂"]
    before = dict(plt.rcParams)
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    assert dict(plt.rcParams) == before


def test_one_panel_without_extras_or_values():
    nothing = report.LearnerCurve(STEPS, np.full((2, 3), np.nan), "σ̂")
    some = report.LearnerCurve(STEPS, VALUES[:1], "test")
    figure = report.learners_figure({"baseline": [some, nothing]}, "coherence")
    (panel,) = figure.axes
    assert [line.get_label() for line in panel.get_lines()] == ["test"]
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    plt.close(figure)
