"""A heap that is kept: what is measured of TLS is then TLS, and not how glibc happens to find its memory.

asyncio and uvloop read TLS into 256 KiB that they get and give back for each read. Where glibc maps that anew, or gives
it back to the kernel from the end of the heap, each read has its pages anew: 4 to 32 of them for a request, and two to
three times its time. Which process has that bad luck is decided by what it imported before; plain `ssl` has it too.
"""

import os
import sys

# One of them alone makes it worse: it ends glibc's adapting of the other limit.
KEEPING = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20), "MALLOC_TRIM_THRESHOLD_": str(16 << 20)}


def keep(name: str) -> None:
    """Start this benchmark again with these variables, which glibc reads at the start, unless they are set."""
    if any(os.environ.get(variable) != value for variable, value in KEEPING.items()):
        os.execve(sys.executable, [sys.executable, "-m", f"bench.{name}", *sys.argv[1:]], {**os.environ, **KEEPING})
