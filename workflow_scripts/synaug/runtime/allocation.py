"""How the memory allocator of the C library treats large blocks."""

import ctypes

# Parameters of glibc's mallopt, from malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Let the process keep the memory that it frees, for its next allocations.

    glibc returns every freed block of some megabytes to the kernel, which clears it when it is allocated again. A
    network on a CPU does this several times a step. Without it, a network of the default config is trained in 11 % less
    time, and the process needs 20 % more memory (docs/decisions.md); the numbers it computes are the same. Other C
    libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
