"""Fits, intervals and tests of fit."""

from .least_squares import CurveFit, LackOfFit, fit_curve, lack_of_fit

__all__ = ["CurveFit", "LackOfFit", "fit_curve", "lack_of_fit"]
