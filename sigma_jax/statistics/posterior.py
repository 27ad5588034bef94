"""Bayesian posteriors of positive parameters, by Hamiltonian Monte Carlo."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from .._check import require_in
from .log_parameters import finite_observations, in_logarithms, like, names_of, to_logarithms

# How far apart, in logarithms, the chains start at most.
_SCATTER = 0.2


class Posterior(eqx.Module):
    """Draws from a posterior. The trees share the structure of `center`."""

    names: tuple[str, ...] = eqx.field(static=True)
    samples: PyTree
    """Draws of each parameter, `[chains, draws]`."""
    noise_sd: Float[np.ndarray, "chains draws"]
    """Draws of the noise; constant if it was given."""
    median: PyTree
    low: PyTree
    """Lower ends of the central 95 % intervals."""
    high: PyTree
    r_hat: PyTree
    """Split R̂ of the logarithms: above 1.01 (1.05 at most) the chains have not met."""
    effective_sample_size: PyTree
    divergences: int
    """Trajectories that broke off: more than a few, and the draws miss part of the posterior."""


def sample_posterior(
    predict: Callable[[PyTree], Float[Array, " observations"]],
    observed: Float[ArrayLike, " observations"],
    center: PyTree,
    *,
    spread: float = 2.0,
    noise_sd: float | None = None,
    noise_scale: float | None = None,
    warmup: int = 500,
    draws: int = 500,
    chains: int = 4,
    seed: int = 0,
) -> Posterior:
    """Draw from the posterior of positive parameters under normal errors, by NUTS.

    log θ ~ N(log center, spread²) independently; observed ~ N(predict(θ), noise²); the noise is
    `noise_sd` if that is given and else half-normal of scale `noise_scale` (by default the
    observations' standard deviation). Sampling is in logarithms, with forward-mode gradients;
    chains start around `center` and run side by side in one compiled call.

    Sampling is NumPyro's (install `sigma_jax[inference]`).

    **Arguments:** `predict`, from a tree like `center` to predictions; `center`, a tree of
    positive scalars; `warmup` and `draws`, of each chain.

    **Raises** `ValueError` if NumPyro is not installed, for a center, spread or noise that is not
    positive, observations that are not finite or too few, or a predict without a finite value at
    the center.

    Source: Hoffman & Gelman (2014), JMLR 15, 1593–1623; Vehtari et al. (2021), Bayesian Analysis
    16, 667–718 for R̂ and the effective sample size.
    """
    numpyro = _numpyro()
    log_center, names = to_logarithms("center", center), names_of(center)
    observed = finite_observations(observed, log_center.size)
    require_in("spread", spread, 0.0, open_low=True)
    for argument, value in (("noise_sd", noise_sd), ("noise_scale", noise_scale)):
        if value is not None:
            require_in(argument, value, 0.0, open_low=True)
    for argument, count, least in (
        ("warmup", warmup, 1),
        ("draws", draws, 4),
        ("chains", chains, 1),
    ):
        require_in(argument, count, least)
    curve = in_logarithms(predict, center)
    if not np.isfinite(np.asarray(curve(jnp.asarray(log_center)))).all():
        raise ValueError("predict has no finite value at center; no chain can start there.")
    scale = float(observed.std(ddof=1)) if noise_scale is None else noise_scale
    first_noise = scale if noise_sd is None else noise_sd
    promotion = jax.config.jax_numpy_dtype_promotion  # pyright: ignore[reportAttributeAccessIssue]

    def potential(position: dict[str, Array]) -> Float[Array, ""]:
        """Minus the logarithm of prior times likelihood, up to a constant."""
        # NumPyro promotes types freely; the program's own rule holds in here.
        with jax.numpy_dtype_promotion(promotion):
            theta = position["theta"]
            prior = jnp.sum(((theta - log_center) / spread) ** 2) / 2
            log_noise = position.get("log_noise", jnp.log(first_noise))
            if noise_sd is None:  # half-normal, times the derivative of exp
                prior = prior + (jnp.exp(log_noise) / scale) ** 2 / 2 - log_noise
            misfit = jnp.sum(((curve(theta) - observed) / jnp.exp(log_noise)) ** 2) / 2
            return prior + misfit + observed.size * log_noise

    sampler = numpyro.infer.MCMC(
        numpyro.infer.NUTS(
            potential_fn=potential, forward_mode_differentiation=True, dense_mass=True
        ),
        num_warmup=warmup,
        num_samples=draws,
        num_chains=chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    start = _scattered(log_center, min(spread, _SCATTER), first_noise, chains, seed)
    if noise_sd is not None:
        del start["log_noise"]
    with jax.numpy_dtype_promotion("standard"):
        sampler.run(jax.random.key(seed), init_params=start, extra_fields=("diverging",))
        drawn = sampler.get_samples(group_by_chain=True)
        diverging = sampler.get_extra_fields()["diverging"]
    theta = np.asarray(drawn["theta"])
    low, median, high = np.exp(np.quantile(theta, [0.025, 0.5, 0.975], axis=(0, 1)))
    diagnostics = numpyro.diagnostics
    return Posterior(
        names=names,
        samples=like(center, np.moveaxis(np.exp(theta), -1, 0)),
        noise_sd=np.exp(
            np.asarray(drawn.get("log_noise", np.full(theta.shape[:2], np.log(first_noise))))
        ),
        median=like(center, median.tolist()),
        low=like(center, low.tolist()),
        high=like(center, high.tolist()),
        r_hat=like(center, np.asarray(diagnostics.split_gelman_rubin(theta)).tolist()),
        effective_sample_size=like(
            center, np.asarray(diagnostics.effective_sample_size(theta)).tolist()
        ),
        divergences=int(np.asarray(diverging).sum()),
    )


def _scattered(log_center, width, noise_sd, chains, seed):
    """A start for every chain, apart from one another so that R̂ means something."""
    away = np.random.default_rng(seed).standard_normal((chains, log_center.size))
    return {
        "theta": jnp.asarray(log_center + width * away),
        "log_noise": jnp.full(chains, np.log(noise_sd)),
    }


def _numpyro():
    try:
        import numpyro
        import numpyro.diagnostics
        import numpyro.infer
    except ImportError as error:
        raise ValueError(
            "sample_posterior needs NumPyro, which is not installed: "
            "pip install sigma_jax[inference]"
        ) from error
    return numpyro
