"""Molecular dynamics with any ASE calculator: NVE and NVT, files that survive a crash, exact resume, drift and radial distribution."""

from __future__ import annotations

from kanmlip.dynamics.drift import Drift, fit_drift
from kanmlip.dynamics.settings import MDSettings
from kanmlip.dynamics.simulation import Outcome, simulate

__all__ = ["Drift", "MDSettings", "Outcome", "fit_drift", "simulate"]
