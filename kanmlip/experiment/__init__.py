"""From a composed configuration to a finished run folder: validation, run ids, worker processes, provenance, sweep summaries."""

from __future__ import annotations

from kanmlip.experiment.folders import conf_dir, results_root

__all__ = ["conf_dir", "results_root"]
