"""How large blocks of memory are allocated in a job that computes on the CPU."""

import ctypes
import os

# Parameters of glibc's mallopt, from malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Let the process keep the memory that it frees, for its next allocations.

    glibc returns every freed block of some megabytes to the kernel, which clears it when it is allocated again. A
    network on a CPU does this several times a step. With this function, a network of the default config is trained in
    11 % less time, and the process needs 20 % more memory (docs/decisions.md); the numbers it computes are the same.
    Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def use_large_pages() -> None:
    """Put tensors of 2 MB and more on pages of 2 MB instead of 4 KB, where the kernel allows it.

    For jobs that train a network: it saves 6 % of their time. Sampling takes 4 % longer with it (docs/decisions.md).
    torch reads the variable when it makes its first tensor on a CPU, so this has to come before.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
