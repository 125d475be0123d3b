"""What glibc does with memory that was freed. Other C libraries are left as they are.

By default it hands the top of its heap back to the system as soon as a step's tensors are gone, and the next step gets it again page by
page, each of them cleared by the kernel (tests/unit/test_malloc.py counts them).
"""

from __future__ import annotations

import ctypes
import os

# Of mallopt, in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MOST_KEPT = 2**31 - 1  # bytes at the top of the heap; what an int holds, so that nothing is handed back
_LARGEST_ON_HEAP = 32 * 2**20  # bytes of a block; glibc allows no more, larger ones come from the system and go there at once


def keep_freed_memory() -> bool:
    """Have this process keep what it frees, since every step needs as much again.

    It does not fall back to what the system would have between steps. Numbers are the same.

    Returns:
        Whether it does so now; not with another C library, nor where ``MALLOC_…_`` or ``GLIBC_TUNABLES`` in the environment say what is
        wanted.
    """
    said = any(name.startswith("MALLOC_") and name.endswith("_") for name in os.environ)
    if said or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)) and bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_ON_HEAP))


def trim() -> None:
    """Give what malloc has kept back to the system, so that it is not counted as there already."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return
