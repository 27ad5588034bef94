"""Fits, intervals and tests of fit."""

from .association import r_squared, slope, spearman
from .breaks import BreakTest, break_null, break_test
from .effect_sizes import cohens_d, power_of_t, sample_size_of_t
from .fisher import FisherInformation, fisher_information, local_sensitivity
from .least_squares import CurveFit, LackOfFit, fit_curve, lack_of_fit
from .mediators import Mediation, mediation
from .model_comparison import Comparison, cross_validate, normal_log_likelihood, vuong
from .multiplicity import benjamini_hochberg, bonferroni, holm
from .posterior import Posterior, sample_posterior
from .profile import ProfileLikelihood, profile_likelihood
from .repeated import Coverage, profile_coverage
from .results import EffectSize, TestResult
from .shares import FalsePositiveRate, binomial, false_positive_rate
from .sobol import SobolIndices, sobol_indices
from .two_samples import mann_whitney, paired, permutation, welch

__all__ = [
    "BreakTest",
    "Comparison",
    "Coverage",
    "CurveFit",
    "EffectSize",
    "FalsePositiveRate",
    "FisherInformation",
    "LackOfFit",
    "Mediation",
    "Posterior",
    "ProfileLikelihood",
    "SobolIndices",
    "TestResult",
    "benjamini_hochberg",
    "binomial",
    "bonferroni",
    "break_null",
    "break_test",
    "cohens_d",
    "cross_validate",
    "false_positive_rate",
    "fisher_information",
    "fit_curve",
    "holm",
    "lack_of_fit",
    "local_sensitivity",
    "mann_whitney",
    "mediation",
    "normal_log_likelihood",
    "paired",
    "permutation",
    "power_of_t",
    "profile_coverage",
    "profile_likelihood",
    "r_squared",
    "sample_posterior",
    "sample_size_of_t",
    "slope",
    "sobol_indices",
    "spearman",
    "vuong",
    "welch",
]
