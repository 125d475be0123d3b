"""What the four runs leave when nothing happens to them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.launchers import sweep_of_four


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return sweep_of_four.undisturbed(tmp_path_factory.mktemp("undisturbed"))
