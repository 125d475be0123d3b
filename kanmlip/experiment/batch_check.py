"""Whether every training structure fits into a batch that is limited by size, seen before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kanmlip.data.checksum import remember_verified, verified_before
from kanmlip.data.root import cache_root

if TYPE_CHECKING:
    from kanmlip.experiment.config import RunConfig


def check_batches(config: RunConfig, root: Path) -> None:
    """Count atoms and edges of the training structures, once a machine; the neighbours found are kept for the runs.

    Args:
        config: Validated settings, whose dataset was checked.
        root: Data root.

    Raises:
        ConfigError: If a structure alone exceeds ``trainer.batch_atoms`` or ``trainer.batch_edges``, with what it needs.
        DataError: If the structures must not be trained on.
    """
    limits, dataset = config.trainer.limits, config.dataset
    if not limits.by_size:
        return
    connectivity = config.model.connectivity()
    key = connectivity if isinstance(connectivity, float) else connectivity.key
    identity = f"{dataset.fingerprint(root)}|{dataset.model_dump_json(exclude=set(dataset.path_fields))}|{key}|{limits}"
    if verified_before("batch_limits", identity):
        return
    # Imported late: most runs have no such limits.
    from kanmlip.training.order import check_limits

    splits = dataset.load(root)
    if splits.train:
        check_limits(limits, config.model.graphs(splits.train, cache_root(), splits.indices.get("train")))
    remember_verified("batch_limits", identity)
