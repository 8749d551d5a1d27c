"""Where the files of an identity are: in a folder, or in memory, under paths that programs of this user can open."""

import contextlib
import os
import stat
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from authsec_sdk.atomic_file import remove_leftovers, write_set
from authsec_sdk.errors import ConfigurationError

__all__ = ["Folder", "Memory", "Place", "default_place"]


class Place(Protocol):
    """Keeps a few small files, each replaced whole and readable by this user alone."""

    def path(self, name: str) -> Path:
        """Return where the file of this name is, or will be."""
        ...

    def write(self, files: Mapping[str, bytes]) -> None:
        """Replace these files. Raises OSError; nothing was changed then."""
        ...

    def remove(self) -> None:
        """Remove every file that was written. Never raises."""
        ...


class Folder:
    """Files of mode 0600 in a folder that only we and root may write to; it is made, with mode 0700, if it is missing.

    A folder that was made here, or is said to be `ours`, is removed with the files.

    Raises:
        ConfigurationError: it cannot be made, is no folder, or others may write to it.
    """

    def __init__(self, folder: Path, *, ours: bool = False) -> None:
        self._folder = folder
        self._ours = _prepared(folder) or ours
        self._written: set[str] = set()

    def path(self, name: str) -> Path:
        """Return where the file of this name is."""
        return self._folder / name

    def write(self, files: Mapping[str, bytes]) -> None:
        """Replace these files, one after the other, in the order given."""
        write_set(self._folder, {name: (data, 0o600) for name, data in files.items()})
        self._written.update(files)

    def remove(self) -> None:
        """Remove the files, and the folder if it was made here and nobody else put something there."""
        for path in (self._folder / name for name in self._written):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                remove_leftovers(path)
        if self._ours:
            with contextlib.suppress(OSError):
                self._folder.rmdir()


class Memory:
    """Files of Linux that are in no file system, and end with this process, however it ends.

    A path is `/proc/PID/fd/NUMBER`: this process and others of this user can open it, nobody else.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._files: dict[str, int] = {}

    def path(self, name: str) -> Path:
        """Return where the file of this name is, once it was written."""
        return Path(f"/proc/{self._process}/fd/{self._files[name]}")

    def write(self, files: Mapping[str, bytes]) -> None:
        """Replace these files: a path leads to the old one or the new one, whole."""
        made: dict[str, int] = {}
        try:
            for name, data in files.items():
                made[name] = os.memfd_create(f"authsec-{name}", os.MFD_CLOEXEC)
                os.fchmod(made[name], 0o600)
                _write_all(made[name], data)
            for name, descriptor in list(made.items()):
                if name in self._files:
                    os.dup2(descriptor, self._files[name], inheritable=False)
                else:
                    self._files[name] = made.pop(name)
        finally:
            for descriptor in made.values():
                os.close(descriptor)

    def remove(self) -> None:
        """Empty them, for whoever holds one open, and close them."""
        while self._files:
            descriptor = self._files.popitem()[1]
            os.truncate(descriptor, 0)
            os.close(descriptor)


def default_place() -> Place:
    """Return memory where the system has such files, else a new folder of mode 0700."""
    if sys.platform == "linux" and Path(f"/proc/{os.getpid()}/fd").is_dir():
        with contextlib.suppress(OSError):  # a seccomp filter may forbid it
            os.close(os.memfd_create("authsec-probe", os.MFD_CLOEXEC))
            return Memory()
    return Folder(Path(tempfile.mkdtemp(prefix="authsec-")), ours=True)


def _write_all(descriptor: int, data: bytes) -> None:
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)


def _prepared(folder: Path) -> bool:
    """Make the folder if it is missing; check that only we and root may write to it. Returns whether it was made."""
    made = True
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir(0o700)
        except FileExistsError:
            made = False
        status = folder.lstat()
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be made: {error.strerror}") from None
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigurationError(f"{folder} is no folder, or a link; a private key needs a folder of its own")
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigurationError(
            f"{folder} belongs to user {status.st_uid}, who could replace the key that is put there"
        )
    if status.st_mode & 0o022:
        raise ConfigurationError(
            f"others may write to {folder} (mode {stat.S_IMODE(status.st_mode):04o}): run: chmod 700 {folder}"
        )
    return made
