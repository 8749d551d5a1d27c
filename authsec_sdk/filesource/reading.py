"""Look at a file and read it, without waiting and bounded, and without following what is no file."""

import os
import stat
from pathlib import Path
from typing import TypeAlias

from authsec_sdk.errors import ConfigurationError, UnavailableError

__all__ = ["Fingerprint", "read_file", "state_of"]

Fingerprint: TypeAlias = tuple[tuple[int, ...] | None, ...]
"""Of each file what changes when its content or its place does; None for one that is not there."""


def state_of(path: Path) -> tuple[int, ...] | None:
    """Return what changes when the file does, through symbolic links; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read_file(path: Path, limit: int, *, private: bool = False) -> bytes:
    """Read a file whole. One that is `private` must not be readable by every user of the machine.

    Raises:
        UnavailableError: it cannot be read.
        ConfigurationError: it is no file, longer than `limit` bytes, or private and readable by all.
    """
    data = b""
    try:
        # Without waiting: a pipe in the place of a file would hold up every source of the process.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - opened by its descriptor, which says what it is
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise ConfigurationError(f"{path} is not a file")
            if private and found.st_mode & stat.S_IRWXO:
                raise ConfigurationError(
                    f"{path} has the mode {stat.S_IMODE(found.st_mode):04o}: every user of this machine may use the"
                    " private key; make it 0640 or less, or pass unsafe_key_readable_by_others=True"
                )
            data = file.read(limit + 1)
        if len(data) > limit:
            raise ConfigurationError(f"{path} is larger than {limit} bytes")
        return data
    except OSError as error:
        raise UnavailableError(f"{path} cannot be read: {error.strerror}") from None
    finally:
        del data
