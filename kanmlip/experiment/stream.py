"""A worker's output, passed on as it comes, with its end kept for the status of a run that dies."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
import threading
from types import TracebackType

TAIL_BYTES = 8192


class Stream:
    """A pipe, or a terminal of the same size as ours, from a worker's stdout and stderr to our stdout; a quiet one only keeps the end.

    Used as a context manager around the worker's life: ``write_end`` goes to the worker, ``start`` begins reading once it has it.
    """

    def __init__(self, interactive: bool, quiet: bool = False) -> None:
        self._quiet = quiet
        terminal = interactive and sys.stdout.isatty()
        self._read_end, self.write_end = pty.openpty() if terminal else os.pipe()
        if terminal:
            _imitate_terminal(self.write_end)
        self._tail = bytearray()
        self._thread = threading.Thread(target=self._copy, daemon=True)

    def __enter__(self) -> Stream:
        return self

    def start(self) -> None:
        """Begin to pass output on; to be called when the worker has its copy of ``write_end``."""
        os.close(self.write_end)
        self.write_end = -1
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.write_end >= 0:
            os.close(self.write_end)
        if self._thread.is_alive():
            # A grandchild may hold the pipe open after the worker's death; do not wait for it.
            self._thread.join(timeout=2)
        if not self._thread.is_alive():
            os.close(self._read_end)

    def tail(self) -> str:
        """The end of what the worker printed."""
        return bytes(self._tail).decode(errors="replace")

    def _copy(self) -> None:
        while True:
            try:
                chunk = os.read(self._read_end, 65536)
            except OSError:  # how a terminal says that its other side is closed
                return
            if not chunk:
                return
            self._tail += chunk
            del self._tail[:-TAIL_BYTES]
            if not self._quiet:
                self._pass_on(chunk)

    def _pass_on(self, chunk: bytes) -> None:
        try:
            buffer = getattr(sys.stdout, "buffer", None)
            if buffer is None:  # captured by a test or a notebook
                sys.stdout.write(chunk.decode(errors="replace"))
            else:
                buffer.write(chunk)
            sys.stdout.flush()
        except (OSError, ValueError):
            return  # nobody reads us any more; the worker must not notice


def _imitate_terminal(descriptor: int) -> None:
    """Give a new terminal our size, and leave the conversion of line ends to ours."""
    size = os.get_terminal_size(sys.stdout.fileno())
    columns, lines = size.columns or 80, size.lines or 24
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    attributes = termios.tcgetattr(descriptor)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
