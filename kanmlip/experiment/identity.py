"""The name of a run: its labels and a hash of everything that can change its result."""

from __future__ import annotations

import hashlib
import json

from kanmlip.experiment.config import RunConfig

# Part of every hash: raise it when the same settings come to mean another computation or records another content.
RECORD_SCHEMA_VERSION = 1
HASH_LENGTH = 10


def run_id(config: RunConfig, dataset_sha256: str) -> str:
    """``<model>-<placement>-<basis|mlp>-<dataset>-s<seed>-<hash10>``, the same on every machine.

    Args:
        config: Validated settings; those without effect on the result do not enter.
        dataset_sha256: ``config.dataset.fingerprint(root)``.
    """
    science = {"schema_version": RECORD_SCHEMA_VERSION, "dataset_sha256": dataset_sha256, "config": config.science()}
    digest = hashlib.sha256(json.dumps(science, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()
    labels = (config.model.name, config.placement.name, config.basis_name or "mlp", config.dataset.name, f"s{config.seed}")
    return "-".join((*labels, digest[:HASH_LENGTH]))
