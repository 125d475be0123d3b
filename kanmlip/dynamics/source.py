"""What computes the forces of a simulation, as plain data that tells whether two simulations are of the same potential."""

from __future__ import annotations

import hashlib

from kanmlip.export.loading import LoadedRun


def describe_source(run: LoadedRun, checkpoint: str = "best") -> dict[str, str]:
    """Run, checkpoint, precision, and a checksum of the weights: a run that is trained again keeps its name.

    Args:
        run: As loaded; any precision of the same checkpoint has a checksum of its own.
        checkpoint: Which of its checkpoints was loaded.
    """
    digest = hashlib.sha256()
    for name, tensor in run.potential.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return {
        "run": run.folder.name,
        "checkpoint": checkpoint,
        "dtype": str(run.dtype).removeprefix("torch."),
        "weights": digest.hexdigest()[:16],
    }
