"""``scripts/random_kills.py`` as a module, from the file: ``scripts`` is no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def load() -> ModuleType:
    if "random_kills" not in sys.modules:
        spec = importlib.util.spec_from_file_location("random_kills", Path(__file__).parents[2] / "scripts" / "random_kills.py")
        if spec is None or spec.loader is None:
            raise ImportError("scripts/random_kills.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["random_kills"] = module  # where its dataclasses look for their types
        spec.loader.exec_module(module)
    return sys.modules["random_kills"]
