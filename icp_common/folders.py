"""Folders for sockets, keys and state: nobody but us (and root) may be able to put something else in their place."""

import os
import stat
from pathlib import Path

from authsec_sdk.errors import ConfigurationError

_MAXIMUM_LINKS = 40
_GROUP_OR_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class UnsafeFolderError(ConfigurationError):
    """Somebody else could replace what is in the folder, or the folder itself."""


def make_private_folder(path: str | os.PathLike[str], mode: int = 0o700) -> Path:
    """Make the folder with its parents if it is missing, and check it; existing ones keep their mode.

    Raises:
        UnsafeFolderError: see `check_private_folder`.
        ConfigurationError: it cannot be made, or is no folder.
    """
    folder = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links before they are checked
    missing = [folder, *folder.parents]
    for parent in reversed(missing):
        try:
            parent.mkdir(mode)
            parent.chmod(mode)  # the umask may have taken more than the mode says
        except FileExistsError:
            continue
        except OSError as error:
            raise ConfigurationError(f"cannot make the folder {parent}: {error.strerror}") from error
    check_private_folder(folder)
    return folder


def check_private_folder(path: str | os.PathLike[str]) -> None:
    """Refuse a folder in which another user could squat, read before us, or swap what we write.

    What holds afterwards: the folder belongs to us or to root and only they can write to it, and nobody else can
    rename or replace any folder or link on the way to it. Ways through `/tmp` pass (it is sticky: what is ours there
    stays ours); `/tmp` itself does not. Our user's private group counts as us.
    Not checked: access lists, and what root does.

    Raises:
        UnsafeFolderError: who could do what, and what to do about it.
        ConfigurationError: there is no such folder.
    """
    final = _check_way(Path(os.path.abspath(path)), _MAXIMUM_LINKS)  # noqa: PTH100 - links are walked one by one
    status = final.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigurationError(f"{final} is not a folder")
    _check_owner(final, status)
    if _writable_by_others(status):
        raise UnsafeFolderError(
            f"the folder {final} can be written by others (mode {stat.S_IMODE(status.st_mode):04o}): "
            f"use a folder of its own, or run: chmod go-w {final}"
        )


def _check_way(path: Path, links: int) -> Path:
    """Check every step to `path`, following links; give the path without links."""
    at = Path(path.anchor)
    for part in path.parts[1:]:
        parent, at = at, at / part
        try:
            status = at.lstat()
        except OSError as error:
            raise ConfigurationError(f"cannot look at the folder {at}: {error.strerror}") from error
        _check_step(parent, at, status)
        if stat.S_ISLNK(status.st_mode):
            if links <= 0:
                raise ConfigurationError(f"too many links on the way to {path}")
            target = os.path.normpath(parent / at.readlink())
            at = _check_way(Path(target), links - 1)
    return at


def _check_step(parent: Path, child: Path, status: os.stat_result) -> None:
    """Nobody else may be able to put another `child` into `parent`."""
    folder = parent.lstat()
    _check_owner(parent, folder)
    if not _writable_by_others(folder):
        return
    if not folder.st_mode & stat.S_ISVTX:
        raise UnsafeFolderError(
            f"the folder {parent}, on the way to {child}, can be written by others "
            f"(mode {stat.S_IMODE(folder.st_mode):04o}): use another folder, or run: chmod go-w {parent}"
        )
    _check_owner(child, status)


def _check_owner(path: Path, status: os.stat_result) -> None:
    if status.st_uid not in (os.geteuid(), 0):
        raise UnsafeFolderError(
            f"{path} belongs to user {status.st_uid}, and this process runs as {os.geteuid()}: "
            f"use a folder of its own, or change its owner"
        )


def _writable_by_others(status: os.stat_result) -> bool:
    writable = status.st_mode & _GROUP_OR_OTHERS
    if writable == stat.S_IWGRP and _is_private_group(status.st_gid):
        return False
    return bool(writable)


def _is_private_group(gid: int) -> bool:
    """Whether the group is our user's own, named like the user and without other members."""
    import grp
    import pwd

    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
        group = grp.getgrgid(gid)
    except KeyError:
        return False
    return group.gr_name == name and set(group.gr_mem) <= {name}
