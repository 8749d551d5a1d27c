"""Who is at the other end of the admin Unix socket, and whether they may be: the kernel's word beside the file's mode.

The socket's mode already keeps strangers out; it is checked again here because a mode can be changed by mistake and
because a socket can be reached through a folder somebody opened. (An operator's tool may well live in another pid
namespace, a sidecar for example, so a process id is recorded and not required.)
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from icp_common.peer_credentials import is_ambiguous
from icp_server.domain.errors import PermissionDenied

_UCRED: Final = struct.Struct("=iII")
_SO_PEERGROUPS: Final = 59
_GROUPS_TRIED: Final = (64, 65536)


class HasSocketOptions(Protocol):
    """A socket, or what asyncio shows of one."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """As of `socket.socket`."""


@dataclass(frozen=True, slots=True)
class LocalPeer:
    """A process that reached the admin socket, as the kernel described it when it connected."""

    pid: int
    """0: it lives in another pid namespace."""
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()
    path: str = ""
    """Its executable when we looked; for the audit log only, any process of the same user can borrow one."""

    @classmethod
    def of(cls, connection: HasSocketOptions) -> LocalPeer:
        """Ask the kernel about the peer of a Unix stream socket.

        Raises:
            OSError: this is no Unix socket.
        """
        pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        return cls(pid, uid, gid, _groups(connection), _executable(pid) if pid > 0 else "")


def check_admitted(peer: LocalPeer, *, owner: int, group: int) -> None:
    """Let in root, the server's own user, and members of the group that the socket belongs to.

    Raises:
        PermissionDenied: it is somebody else.
    """
    if _names_one_user(peer.uid) and peer.uid in (0, owner):
        return
    if group in _known({peer.gid, *peer.groups}):
        return
    raise PermissionDenied(f"user {peer.uid} (group {peer.gid}) may not use the admin socket")


def _names_one_user(uid: int) -> bool:
    return not _ambiguous("uid", uid)


def _known(groups: Collection[int]) -> set[int]:
    return {gid for gid in groups if not _ambiguous("gid", gid)}


def _ambiguous(kind: str, identity: int) -> bool:
    """Whether the number stands for every id our user namespace has no name for."""
    overflow = int(Path(f"/proc/sys/kernel/overflow{kind}").read_text("ascii"))
    if identity != overflow:
        return False
    return is_ambiguous(identity, overflow, Path(f"/proc/self/{kind}_map").read_text("ascii"))


def _groups(connection: HasSocketOptions) -> frozenset[int]:
    for count in _GROUPS_TRIED:
        try:
            raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * count)
        except OSError as error:
            if error.errno == errno.ERANGE:
                continue
            return frozenset()
        return frozenset(struct.unpack(f"={len(raw) // 4}I", raw))
    return frozenset()


def _executable(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/exe").readlink())
    except OSError:
        return ""
