"""A polynomial in (a, c, x) of I-42d SiO2 for the tensor of each kind of site: what three numbers a structure can do."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanmlip.errors import MissingDependencyError
from kanmlip.evaluation.i42d import Sites

Array = NDArray[np.float64]


def has_scikit_learn() -> bool:
    """Whether the polynomials can be fitted; nothing is imported."""
    return importlib.util.find_spec("sklearn") is not None


class SitePolynomial:
    """Least squares of every component, in the axes of its site, on all monomials up to a degree.

    Args:
        degree: Of the polynomial.

    Raises:
        MissingDependencyError: If scikit-learn is not installed.
    """

    def __init__(self, degree: int) -> None:
        if not has_scikit_learn():
            raise MissingDependencyError(
                "the polynomial baseline needs scikit-learn, which is not installed; run: pip install scikit-learn"
            )
        linear = importlib.import_module("sklearn.linear_model")
        pipeline = importlib.import_module("sklearn.pipeline")
        preprocessing = importlib.import_module("sklearn.preprocessing")
        # Centred and scaled first: monomials of degree 7 in Å could not be told apart in double precision.
        self.make: Callable[[], Any] = lambda: pipeline.make_pipeline(
            preprocessing.StandardScaler(), preprocessing.PolynomialFeatures(degree), linear.LinearRegression()
        )
        self.by_species: dict[int, Any] = {}

    def fit(self, sites: Sites, atomic_numbers: NDArray[np.int64], structure: NDArray[np.int64], tensors: Array) -> None:
        """Fit to a training set.

        Args:
            sites: Its geometry.
            atomic_numbers: [N].
            structure: [N], the structure of each atom.
            tensors: [N, 3, 3].
        """
        local = np.einsum("nij,njk,nlk->nil", sites.axes, tensors, sites.axes).reshape(-1, 9)
        for z in np.unique(atomic_numbers):
            chosen = atomic_numbers == z
            self.by_species[int(z)] = self.make().fit(sites.parameters[structure[chosen]], local[chosen])

    def predict(self, sites: Sites, atomic_numbers: NDArray[np.int64], structure: NDArray[np.int64]) -> Array:
        """Tensors [N, 3, 3] in the axes of the cell."""
        local = np.zeros((len(atomic_numbers), 9))
        for z, regression in self.by_species.items():
            chosen = atomic_numbers == z
            if chosen.any():
                local[chosen] = regression.predict(sites.parameters[structure[chosen]])
        turned: Array = np.einsum("nji,njk,nkl->nil", sites.axes, local.reshape(-1, 3, 3), sites.axes)
        return turned
