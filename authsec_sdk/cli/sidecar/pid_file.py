"""Tell a program that somebody else runs: the signal goes to the process whose number is in a file."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Final

from authsec_sdk.errors import ConfigurationError, UnavailableError

__all__ = ["read_pid", "signal_by_pid_file"]

_ATTEMPTS: Final = 5
_BETWEEN: Final = 0.1
_MAX_BYTES: Final = 64


def read_pid(path: Path) -> int:
    """Return the process that the first line of a pid file names, as it is now.

    Raises:
        ConfigurationError: it holds no number, or one that stands for several processes or for init.
        UnavailableError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            text = file.readline(_MAX_BYTES).strip()  # PostgreSQL writes more behind it
    except OSError as error:
        raise UnavailableError(f"the pid file {path} cannot be read: {error.strerror}") from None
    if not text.isdigit():
        raise ConfigurationError(f"the pid file {path} holds no process number")
    pid = int(text)
    if pid <= 1:
        raise ConfigurationError(f"the pid file {path} holds {pid}, which is no program's")
    return pid


async def signal_by_pid_file(path: Path, number: signal.Signals) -> int:
    """Send the signal, trying for half a second while the file is being written; return the process.

    Not checked: that the process is the one that wrote the file; a stale file names whoever has the number now.

    Raises:
        ConfigurationError, UnavailableError: as `read_pid`; there is no such process, or it is not ours to signal.
    """
    attempt = 1
    while True:
        try:
            pid = read_pid(path)
            os.kill(pid, number)
            return pid
        except (ConfigurationError, UnavailableError):
            if attempt == _ATTEMPTS:
                raise
        except (ProcessLookupError, OverflowError):
            if attempt == _ATTEMPTS:
                raise UnavailableError(f"the pid file {path} names a process that does not exist") from None
        except PermissionError:
            raise UnavailableError(f"the process of the pid file {path} is not ours to signal") from None
        attempt += 1
        await asyncio.sleep(_BETWEEN)
