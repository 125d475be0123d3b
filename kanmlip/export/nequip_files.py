"""NequIP and Allegro as upstream's package (.nequip.zip), which its own tools read, compile and turn into ML-IAP files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from torch import nn
from torch.package.package_exporter import PackageExporter

from kanmlip.export.checked import checked_file
from kanmlip.export.loading import LoadedRun
from kanmlip.export.probe import Difference, check, compare, probe_graph
from kanmlip.export.torch_only import freeze, record_heads
from kanmlip.models.nequip_energy import NequIPPotential, contained_global_state

# The layout that nequip 0.19 writes and reads (nequip/scripts/package.py).
PACKAGE_VERSION = 2
SOLE_MODEL = "sole_model"


def write_package(run: LoadedRun, path: Path) -> Difference:
    """Write what ``nequip-package`` writes, and read it back with upstream's loader.

    The heads are recorded as plain PyTorch, so whoever has nequip (and allegro for Allegro) can load the file, compile it with
    ``nequip-compile`` and turn it into an ML-IAP file with ``nequip-prepare-lmp-mliap``.

    Args:
        run: Loaded with ``backend="inductor"``, since upstream's tools compile what is in the file; its heads are changed.
        path: Must end with ``.nequip.zip``.

    Raises:
        KanmlipError: If the file is not the model.
    """
    potential = cast("NequIPPotential", run.potential)
    graph = probe_graph(run)
    expected = potential(graph)
    inputs = {name: value.detach().cpu() for name, value in potential.inputs(graph, graph.positions, graph.cell).items()}
    record_heads(run)
    upstream = freeze(potential.upstream)
    with checked_file(path) as part:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="TypedStorage is deprecated", category=UserWarning)
            export(run, upstream, inputs, part)
            output = read_package(part)(inputs)
        return check(compare(expected, output["total_energy"], output["forces"]), run.dtype, path.name)


def export(run: LoadedRun, upstream: nn.Module, inputs: dict[str, torch.Tensor], path: Path) -> None:
    """Write the archive: model, an example of its input, the run's settings, versions and types."""
    # What upstream and its extensions registered for packaging; these names are of nequip 0.19.
    from nequip.scripts._package_utils import _EXTERNAL_MODULES, _INTERNAL_MODULES, _MOCK_MODULES
    from nequip.utils.versions import get_current_code_versions
    from nequip.utils.versions.version_utils import get_version_safe

    metadata = {
        "versions": get_current_code_versions(verbose=False),
        "external_modules": {name: get_version_safe(name) for name in _EXTERNAL_MODULES},
        "package_version_id": PACKAGE_VERSION,
        "available_models": ["eager"],
        "atom_types": dict(enumerate(cast("Any", upstream).type_names)),
    }
    with PackageExporter(str(path)) as exporter:
        exporter.mock([f"{name}.**" for name in sorted(_MOCK_MODULES)])
        exporter.extern([f"{name}.**" for name in sorted(_EXTERNAL_MODULES)])
        exporter.intern([f"{name}.**" for name in sorted(_INTERNAL_MODULES)])
        exporter.save_pickle("model", "example_data.pkl", inputs)
        exporter.save_text("model", "config.yaml", yaml.safe_dump(run.config.to_plain()))
        exporter.save_text("model", "package_metadata.txt", yaml.safe_dump(metadata))
        exporter.save_pickle("model", "eager_model.pkl", nn.ModuleDict({SOLE_MODEL: upstream}))


def read_package(path: Path) -> nn.Module:
    """The model of a package, by upstream's loader."""
    from nequip.model.saved_models import ModelFromPackage

    with contained_global_state():
        model: nn.Module = ModelFromPackage(str(path))[SOLE_MODEL]
    return model.eval()
