"""Kolmogorov–Arnold layers for potentials; usable alone, import torch and nothing else: ``from kanmlip.kan import KAN, BSpline``."""

from kanmlip.kan.adaptive_gaussian import AdaptiveGaussian
from kanmlip.kan.basis import Basis
from kanmlip.kan.bspline import BSpline
from kanmlip.kan.chebyshev import Chebyshev
from kanmlip.kan.fourier import Fourier
from kanmlip.kan.gaussian import Gaussian
from kanmlip.kan.layer import KANLayer
from kanmlip.kan.relu import ReLUPower
from kanmlip.kan.stack import KAN
from kanmlip.kan.truncated_power import TruncatedPower

__all__ = ["KAN", "AdaptiveGaussian", "BSpline", "Basis", "Chebyshev", "Fourier", "Gaussian", "KANLayer", "ReLUPower", "TruncatedPower"]
