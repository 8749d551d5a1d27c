"""Writes files so that whoever reads, after whatever crash, finds the old content or the new one, whole."""

import contextlib
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from authsec_sdk.errors import ConfigurationError

_SUFFIX = ".tmp"
_MAXIMUM_SIZE = 64 << 20


def write_atomic(path: str | os.PathLike[str], data: bytes, mode: int = 0o600) -> None:
    """Replace the file's content, or make the file, with exactly this mode.

    What holds: after a crash or power loss the file has its old content or the new, never a part; when this returns
    the new content is on the disk. A link at `path` is replaced, never followed. A crash may leave a file named
    `.NAME.….tmp` beside it: `remove_leftovers`. Not checked: the folder (`folders.check_private_folder`).

    Raises:
        OSError: nothing was changed.
    """
    target = Path(path)
    try:
        write_set(target.parent, {target.name: (data, mode)})
    finally:
        del data  # it may be a key, and reports of crashes print the locals of frames


def write_set(folder: str | os.PathLike[str], files: Mapping[str, tuple[bytes, int]]) -> None:
    """Replace several files of one folder, each with its content and mode, in the order given.

    What holds: as `write_atomic` for each; and nothing is replaced before everything is on the disk, so that a disk
    which is full changes nothing. Not promised: that who reads meanwhile finds all old or all new ones.

    Raises:
        OSError: a file could not be written, and nothing was changed; or, seldom, one could not be put in its place,
            and those before it were.
    """
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    staged: dict[str, str] = {}
    try:
        # All by the folder's descriptor: if the folder is moved meanwhile, the file still lands beside its old self.
        try:
            for name, (data, mode) in files.items():
                staged[name] = f".{name}.{secrets.token_hex(8)}{_SUFFIX}"
                _write_new(directory, staged[name], data, mode)
            for name in files:
                os.replace(staged[name], name, src_dir_fd=directory, dst_dir_fd=directory)
                del staged[name]
        except BaseException:
            for temporary in staged.values():
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=directory)
            raise
        os.fsync(directory)
    finally:
        data = b""
        del data, files  # they may be keys, and reports of crashes print the locals of frames
        os.close(directory)


def remove_file(path: str | os.PathLike[str]) -> None:
    """Remove the file if it is there; when this returns, a crash cannot bring it back."""
    target = Path(path)
    target.unlink(missing_ok=True)
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove what crashed writers left beside the file. Only for files which nobody else is writing."""
    target = Path(path)
    with contextlib.suppress(FileNotFoundError):
        for beside in target.parent.iterdir():
            if beside.name.startswith(f".{target.name}.") and beside.name.endswith(_SUFFIX):
                beside.unlink(missing_ok=True)


def read_private(path: str | os.PathLike[str], *, maximum: int = _MAXIMUM_SIZE) -> bytes:
    """Read a file which only its owner, we or root, can read or write.

    Raises:
        FileNotFoundError: it is not there.
        ConfigurationError: it is a link, no regular file, somebody else's, open to others, or too large.
        OSError: it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if Path(path).is_symlink():
            raise ConfigurationError(f"{os.fspath(path)} is a link; a private file must be a file") from error
        raise
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        status = os.fstat(descriptor)
        _check_private(os.fspath(path), status)
        data = file.read(maximum + 1)
    if len(data) > maximum:
        raise ConfigurationError(f"{os.fspath(path)} is larger than {maximum} bytes")
    return data


def _write_new(directory: int, name: str, data: bytes, mode: int) -> None:
    descriptor = os.open(
        name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode & 0o600, dir_fd=directory
    )
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(data)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
    finally:
        del data


def _check_private(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(f"{path} is not a regular file")
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigurationError(f"{path} belongs to user {status.st_uid}, and this process runs as {os.geteuid()}")
    if status.st_mode & 0o077:
        raise ConfigurationError(
            f"{path} is open to others (mode {stat.S_IMODE(status.st_mode):04o}): run: chmod 600 {path}"
        )
