"""The code on the analysis page runs, and what its comments say is so."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def names(run_page) -> dict:
    """The page's variables after all its code blocks."""
    return run_page("analysis.md")


@pytest.mark.slow
def test_the_equilibria_are_those_named(names):
    sigma = [float(e.y.sigma[0, 0, 0]) for e in names["found"]]
    stability = [e.stability for e in names["found"]]
    order = np.argsort(sigma)
    np.testing.assert_allclose(np.array(sigma)[order], [0.0, 0.147, 0.631], atol=1e-3)
    assert [stability[i] for i in order] == ["stable", "unstable", "stable"]


@pytest.mark.slow
def test_the_branch_meets_the_points_named(names):
    kinds = [(p.kind, round(float(p.parameter), 6)) for p in names["branch"].special]
    assert kinds[0] == ("saddle-node", 0.710059)
    shares = np.asarray(names["shares"].shares)
    # Columns are attractors: incoherence first, as nothing else is there below the saddle-node.
    np.testing.assert_allclose(shares[0, 0], 1.0)
    np.testing.assert_allclose(shares[1, 1], 1 - 0.147, atol=0.01)
    assert shares[2, 1] > shares[1, 1]


@pytest.mark.slow
def test_noise_information_and_profile_say_what_the_comments_say(names):
    assert names["ensemble"].ys.sigma[:, -1].mean() < names["skeleton"].ys.sigma[-1].mean()
    (unseen,) = names["information"].unseen
    assert "rho" in unseen
    assert "p_a" in unseen
    profile = names["profile"]
    assert profile.low["rho"] < 0.6 < profile.high["rho"]
