"""Who is at the other end of a Unix socket, from the kernel alone, and whether it is still the same one."""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from authsec_sdk.errors import OperatorError, SpiffeError
from icp_common.process import Executable, Process, ProcessFacts, ProcessGoneError

SO_PEERPIDFD = 77
"""Linux 6.5; gives a descriptor of the very process that connected, which no later process can take over."""

_UCRED = struct.Struct("=iII")
_DESCRIPTOR = struct.Struct("=i")
_PEER_ENDED = frozenset({errno.ESRCH, errno.EINVAL, errno.ENODATA})  # which of them depends on the kernel's version
_ALL_IDS = 0xFFFFFFFF


class UnidentifiablePeerError(OperatorError):
    """The kernel does not tell this daemon who the peer is, as the peer lives outside of its namespaces."""


class CallerGoneError(SpiffeError):
    """The process that called has ended, executed another program, or changed its user or group since."""


class HasSocketOptions(Protocol):
    """A socket, or what asyncio shows of one."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """As of `socket.socket`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCredentials:
    """The process at the other end of a Unix socket, as it was when the connection was taken up.

    What holds: the kernel vouches for pid, user and group at the time of `connect`, and all reads are of that process.
    Not held: that this process is the one that reads the answer. It may pass the socket on, and between connecting and
    our looking it may have executed another program: `executable`, and so `path` and `sha256`, can be borrowed by any
    process of the same user.
    Without SO_PEERPIDFD (before Linux 6.5) a process that ended before we looked, and whose number went to another
    process of the same user and group, would be taken for that one.
    """

    pid: int
    uid: int
    gid: int
    start_time: int
    executable: Executable | None
    process: Process = field(repr=False, compare=False)

    @classmethod
    def of(cls, connection: HasSocketOptions) -> Self:
        """Ask the kernel about the peer of a Unix stream socket; call it when the connection is accepted.

        Raises:
            UnidentifiablePeerError: the peer is outside of our pid or user namespace.
            CallerGoneError: the peer has ended or changed since it connected.
            ProcessUnreadableError: /proc does not show us the peer.
            OSError: this is no Unix socket.
        """
        pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if pid <= 0:
            raise UnidentifiablePeerError(
                "the peer is outside of this daemon's pid namespace and so cannot be told from others: "
                "run the daemon in the node's pid namespace (hostPID)"
            )
        _refuse_overflow("uid", uid)
        _refuse_overflow("gid", gid)
        try:
            process = Process(pid, pidfd=_pidfd(connection, pid))
        except ProcessGoneError as error:
            raise CallerGoneError(str(error)) from error
        try:
            facts = _facts(process)
            peer = cls(
                pid=pid,
                uid=uid,
                gid=gid,
                start_time=facts.start_time,
                executable=facts.executable,
                process=process,
            )
            peer._check(facts)
        except BaseException:
            process.close()
            raise
        return peer

    @property
    def pidfd(self) -> int | None:
        """A descriptor of the process where the kernel offers one; owned by this object."""
        return self.process.pidfd

    def verify_still_same(self) -> ProcessFacts:
        """Look at the process now and refuse it if it is not as it was.

        Raises:
            CallerGoneError: it has ended, runs another program, or has another effective user or group.
            ProcessUnreadableError: /proc does not show it any more.
        """
        facts = _facts(self.process)
        self._check(facts)
        return facts

    def read_cgroups(self) -> bytes:
        """The text of the process's `cgroup` file; to be compared with what it is after a longer question.

        Raises:
            CallerGoneError: it has ended.
            ProcessUnreadableError: /proc does not show it.
        """
        try:
            return self.process.read_cgroups()
        except ProcessGoneError as error:
            raise CallerGoneError(str(error)) from error

    def close(self) -> None:
        """Let go of the process; idempotent, and done at the latest when this object is collected."""
        self.process.close()

    def _check(self, facts: ProcessFacts) -> None:
        if facts.start_time != self.start_time:
            raise CallerGoneError(f"process {self.pid} is another one than the one that connected")
        if (facts.uid, facts.gid) != (self.uid, self.gid):
            raise CallerGoneError(
                f"process {self.pid} connected as {self.uid}:{self.gid} and is {facts.uid}:{facts.gid} now"
            )
        before, now = self.executable, facts.executable
        if before is not None and now is not None and not before.same_file(now):
            raise CallerGoneError(f"process {self.pid} has executed another program")


def is_ambiguous(identity: int, overflow: int, id_map: str) -> bool:
    """Whether an id may stand for any id our user namespace has no name for.

    The kernel shows all of those as the overflow id (65534, `nobody`). Only where the namespace names every id there
    is, as the first one does, can it be nobody's own. `id_map` is the text of `/proc/self/uid_map` or `gid_map`.
    """
    if identity == _ALL_IDS:
        return True
    if identity != overflow:
        return False
    ranges = [tuple(map(int, line.split())) for line in id_map.splitlines() if line.strip()]
    return sum(length for _, _, length in ranges) < _ALL_IDS


def unambiguous_gids(gids: Iterable[int]) -> tuple[int, ...]:
    """Those of the groups which have a number of their own in the user namespace we live in."""
    overflow, id_map = _own_map("gid")
    return tuple(gid for gid in gids if not is_ambiguous(gid, overflow, id_map))


def _refuse_overflow(kind: str, identity: int) -> None:
    if is_ambiguous(identity, *_own_map(kind)):
        raise UnidentifiablePeerError(
            f"the peer's {kind} has no number in this daemon's user namespace ({identity} stands for all such): "
            f"run the daemon in the node's user namespace, or map the workloads' ids into it"
        )


def _own_map(kind: str) -> tuple[int, str]:
    overflow = int(Path(f"/proc/sys/kernel/overflow{kind}").read_text("utf-8"))
    return overflow, Path(f"/proc/self/{kind}_map").read_text("utf-8")


def _facts(process: Process) -> ProcessFacts:
    try:
        return process.facts()
    except ProcessGoneError as error:
        raise CallerGoneError(str(error)) from error


def _pidfd(connection: HasSocketOptions, pid: int) -> int | None:
    try:
        (pidfd,) = _DESCRIPTOR.unpack(connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD, _DESCRIPTOR.size))
    except OSError as error:
        if error.errno in _PEER_ENDED:
            raise CallerGoneError(f"process {pid} has ended") from error
        if error.errno != errno.ENOPROTOOPT:
            raise
        return _open_pidfd(pid)
    try:
        named = _pid_of(pidfd)
        if named != pid:
            raise CallerGoneError(f"process {pid} has ended")
    except BaseException:
        os.close(pidfd)
        raise
    return int(pidfd)


def _open_pidfd(pid: int) -> int | None:
    """The next best: the process which has the number now, held from now on."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError as error:
        raise CallerGoneError(f"process {pid} has ended") from error
    except OSError:
        return None  # no pidfds here (before Linux 5.3, or forbidden): the start time alone must do


def _pid_of(pidfd: int) -> int:
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text("utf-8").splitlines():
        key, _, value = line.partition(":")
        if key == "Pid":
            with contextlib.suppress(ValueError):
                return int(value)
    return -1
