"""The console scripts: one thin file a command."""

from __future__ import annotations

import sys
from collections.abc import Callable


def answer(command: str, run: Callable[[], int]) -> int:
    """Run a command; what is wrong with its input, or with the disk it writes to, becomes one message instead of a traceback.

    Args:
        command: Its name, to begin the message with.
        run: What it does; returns its exit code.

    Returns:
        That exit code, or the exception's; 1 where a file could not be read or written.
    """
    from kanmlip.errors import KanmlipError

    try:
        return run()
    except KanmlipError as error:
        sys.stderr.write(f"{command}: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"{command}: {error}\n")
        return 1
