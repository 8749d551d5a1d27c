"""What a process has: threads, descriptors, temporary files."""

import gc
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def descriptors() -> Counter[str]:
    """Return what kinds of files are open, and how many of each."""
    kinds: Counter[str] = Counter()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        kinds[target.partition(":")[0] if ":[" in target else target] += 1
    return kinds


@contextmanager
def nothing_left(folder: Path) -> Iterator[None]:
    """Fail unless threads, descriptors and temporary files are as before when left, or soon after."""
    gc.collect()
    before, temporary = tempfile.tempdir, folder
    tempfile.tempdir = str(temporary)
    threads, files = set(threading.enumerate()), descriptors()
    try:
        yield
    finally:
        tempfile.tempdir = before
    deadline = time.monotonic() + 5
    while True:
        gc.collect()
        more = [thread.name for thread in threading.enumerate() if thread not in threads]
        opened = descriptors() - files
        if not more and not opened:
            break
        assert time.monotonic() < deadline, f"left behind: threads {more}, descriptors {dict(opened)}"
        time.sleep(0.02)
    assert list(temporary.iterdir()) == []
