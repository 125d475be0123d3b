"""What is wrong with a command's input or disk is one message, and a bug of ours stays a traceback."""

from __future__ import annotations

import errno

import pytest

from kanmlip.cli import answer
from kanmlip.errors import ConfigError, DivergenceError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("seed=x: choose a number"), 2),
        (DivergenceError("the loss is NaN"), 1),
        (OSError(errno.ENOSPC, "No space left on device", "results/a.md"), 1),
    ],
)
def test_an_error_of_the_input_or_the_disk_is_one_line(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> int:
        raise error

    assert answer("kanmlip-bench", run) == code
    assert capsys.readouterr().err == f"kanmlip-bench: {error}\n"


def test_what_a_command_returns_is_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer("kanmlip-md", lambda: 130) == 130
    assert capsys.readouterr().err == ""


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        answer("kanmlip-show", lambda: 1 // 0)
