"""Tell a program that somebody else runs: the signal goes to the process whose number is in a file."""

import asyncio
import os
import signal
import stat
from pathlib import Path
from typing import Final

from authsec_sdk.errors import ConfigurationError, UnavailableError

__all__ = ["may_be_signalled", "read_pid", "signal_by_pid_file"]

_ATTEMPTS: Final = 5
_BETWEEN: Final = 0.1
_MAX_BYTES: Final = 64


def read_pid(path: Path) -> int:
    """Return the process that the first line of a pid file names, as it is now.

    Raises:
        ConfigurationError: it is no file, it holds no number, or one that stands for several processes or for init; or
            we are root, and it is the word of somebody whose process that is not (`may_be_signalled`).
        UnavailableError: it cannot be read.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123 - a descriptor
            status = os.fstat(file.fileno())
            text = file.readline(_MAX_BYTES).strip() if stat.S_ISREG(status.st_mode) else b""  # PostgreSQL writes more
    except OSError as error:
        raise UnavailableError(f"the pid file {path} cannot be read: {error.strerror}") from None
    if not text.isdigit():
        raise ConfigurationError(f"the pid file {path} holds no process number")
    pid = int(text)
    if pid <= 1:
        raise ConfigurationError(f"the pid file {path} holds {pid}, which is no program's")
    if not may_be_signalled(_owner(pid), status, os.geteuid()):
        raise ConfigurationError(f"the pid file {path} is not root's, and names {pid}, a process of somebody else")
    return pid


def may_be_signalled(owner: int | None, file: os.stat_result, our_uid: int) -> bool:
    """Whether a pid file may point at a process of this user; None is unknown. Pure.

    Root could signal everybody's, so whoever can write the file must be root, or be allowed to do it himself.
    """
    if our_uid != 0 or owner is None:
        return True  # the kernel decides
    return not file.st_mode & stat.S_IWOTH and file.st_uid in (0, owner)


def _owner(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    uids = next((line for line in status.splitlines() if line.startswith("Uid:")), "")
    return int(uids.split()[1]) if uids else None


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
