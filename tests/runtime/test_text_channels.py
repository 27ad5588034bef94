"""Channels: whitening, what is held out, and what has no contrast."""

import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.runtime import TextChannels
from sigma_jax.runtime.text_channels import class_residuals, content_map, fit_channel, style_map
from tests.runtime.simulated_replies import replies, truth


def classes(seed, count, channel, **options):
    draw, model = np.random.default_rng(seed), truth(seed, **options)
    return [replies(draw, model, count, default=lost)[channel] for lost in (False, True)], model


def test_many_style_replies_are_whitened_to_their_shrunk_covariance():
    (identity, default), _ = classes(0, 4000, 0)
    residuals, freedom = class_residuals(identity, default)
    scale = np.sqrt(
        (residuals**2).sum(axis=0) / freedom
        + 0.01 * np.concatenate([identity, default]).var(axis=0)
    )
    correlation = (residuals / scale).T @ (residuals / scale) / freedom
    shrunk = 0.8 * correlation + 0.2 * np.trace(correlation) / 6 * np.eye(6)
    w = style_map(identity, default) * scale
    np.testing.assert_allclose(w @ shrunk @ w.T, np.eye(6), atol=1e-10)


def test_the_axes_of_the_content_are_those_of_a_singular_value_decomposition():
    for count, size in ((30, 50), (80, 20)):
        (identity, default), _ = classes(1, count, 1, sizes=(4, size))
        fitted = content_map(5)(identity, default)
        together = np.concatenate([identity, default])
        axes = np.linalg.svd(together - together.mean(axis=0))[2][:5]
        # The rows of the map span the same space.
        projected = fitted @ axes.T @ axes
        np.testing.assert_allclose(projected, fitted, atol=1e-8 * np.abs(fitted).max())
        scores = class_residuals(identity, default)[0] @ axes.T
        covariance = scores.T @ scores / (2 * count - 2)
        shrunk = 0.8 * covariance + 0.2 * np.trace(covariance) / 5 * np.eye(5)
        whitened = (fitted @ axes.T) @ shrunk @ (fitted @ axes.T).T
        np.testing.assert_allclose(whitened, np.eye(5), atol=1e-8)


@pytest.mark.parametrize("channel", [0, 1])
def test_new_replies_are_as_far_as_whitened_ones_although_few_were_fitted(channel):
    """The mean square is 1 + 1/20, by the mean's own error, where fitted replies have less."""
    found = []
    for seed in range(30):
        (identity, default), model = classes(seed, 20, channel, sizes=(14, 60))
        fit = content_map(24) if channel else style_map
        fitted = fit_channel(identity, default, fit)
        new = replies(np.random.default_rng(-seed + 999), model, 400)[channel]
        y = (new - fitted.mean) @ fitted.map.T
        found.append(np.mean(y**2))
    assert abs(np.mean(found) - 1.05) < 0.06


def test_the_power_is_what_held_out_replies_show():
    for distance in (0.0, 2.0, 5.0):
        power, seen = [], []
        for seed in range(30):
            (identity, default), model = classes(seed, 20, 0, distances=(distance, 0.0))
            fitted = fit_channel(identity, default, style_map)
            power.append(fitted.power)
            draw, way = np.random.default_rng(seed + 500), fitted.default
            along = [
                (replies(draw, model, 400, default=lost)[0] - fitted.mean) @ fitted.map.T @ way
                for lost in (False, True)
            ]
            spread = np.sqrt((along[0].var() + along[1].var()) / 2)
            seen.append((along[1].mean() - along[0].mean()) / spread)
        # A little too low for large ones, since every reply is projected on an axis of its own.
        assert -0.3 - 0.1 * distance < np.mean(power) - np.mean(seen) < 0.3
        if distance == 0:
            assert abs(np.mean(power)) < 0.3


def test_a_feature_that_separates_the_classes_without_spread_is_strong_not_infinite():
    (identity, default), _ = classes(2, 20, 0, distances=(0.0, 0.0))
    identity[:, 3], default[:, 3] = 0.0, 1.0
    fitted = fit_channel(identity, default, style_map)
    assert np.isfinite(fitted.map).all()
    assert 5.0 < np.linalg.norm(fitted.default) < 100.0
    assert fitted.power > 5.0


def test_observing_is_the_affine_map_channel_by_channel():
    draw = np.random.default_rng(3)
    parts = [draw.normal(size=size) for size in ((3,), (2, 3), (5,), (4, 5))]
    channels = TextChannels(*(jnp.asarray(part) for part in parts))
    style, content = draw.normal(size=(7, 2, 3)), draw.normal(size=(7, 2, 5))
    y = channels.observe(style, content)
    assert y.shape == (7, 2, 6)
    np.testing.assert_allclose(y[3, 1, :2], parts[1] @ (style[3, 1] - parts[0]), rtol=1e-12)
    np.testing.assert_allclose(y[3, 1, 2:], parts[3] @ (content[3, 1] - parts[2]), rtol=1e-12)
    with pytest.raises(ValueError, match=r"content must be \[..., 5\]; got shape \(7, 2, 4\)"):
        channels.observe(style, content[..., :4])
