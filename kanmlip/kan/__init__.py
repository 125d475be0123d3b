"""Kolmogorov–Arnold layers for potentials; usable alone, import torch and nothing else: ``from kanmlip.kan import KAN, BSpline``."""

from kanmlip.kan.basis import Basis
from kanmlip.kan.bspline import BSpline
from kanmlip.kan.fourier import Fourier
from kanmlip.kan.gaussian import Gaussian
from kanmlip.kan.layer import KANLayer
from kanmlip.kan.stack import KAN

__all__ = ["KAN", "BSpline", "Basis", "Fourier", "Gaussian", "KANLayer"]
