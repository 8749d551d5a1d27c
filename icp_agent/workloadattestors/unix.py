"""The `unix` workload attestor: user, groups and executable of a process, as the kernel tells them."""

import grp
import logging
import pwd
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio.to_thread
from anyio import CapacityLimiter

from authsec_sdk.errors import OperatorError
from authsec_sdk.hcl import Fields
from authsec_sdk.spire.selectors import Selector
from icp_agent.ports import MakeWorkloadAttestor, WorkloadAttestor
from icp_agent.workloadattestors.digests import ExecutableDigests, UndigestableError
from icp_common.peer_credentials import CallerGoneError, PeerCredentials, unambiguous_gids
from icp_common.process import Executable, ProcessFacts, ProcessGoneError, own_mount_namespace
from icp_common.telemetry import Telemetry

_log = logging.getLogger(__name__)

NAME: Final = "unix"
_THREADS = 8
_STUCK_THREADS = 64


class PathUnknownError(OperatorError):
    """The path of the executable means nothing here, or may not be known."""


@dataclass(frozen=True, slots=True)
class UnixSettings:
    """What `plugin_data` says; called, it makes the attestor. `size_limit`: 0 hashes everything, below 0 nothing."""

    discover_workload_path: bool = False
    size_limit: int = 0

    def __call__(self, telemetry: Telemetry) -> WorkloadAttestor:
        """Make the attestor."""
        return UnixAttestor(discover_path=self.discover_workload_path, size_limit=self.size_limit, telemetry=telemetry)


class UnixAttestor:
    """Selectors `unix:uid`, `user`, `gid`, `group`, `supplementary_gid`, `supplementary_group`, and where wanted
    `path` and `sha256`.

    Ids are the effective ones. `path` is given only when the process lives in our mount namespace and the path leads
    us to the very file it runs. `sha256` needs a `size_limit` of 0 (any size) or more bytes than the executable has.
    A selector that cannot be had is left out, logged and counted: fewer selectors match fewer entries. Not held: that
    the process that reads the answer is the one that was looked at; `path` and `sha256` can be borrowed by any process
    of the same user (`PeerCredentials` says how), so entries should name the user as well.
    """

    name = NAME

    def __init__(self, *, discover_path: bool = False, size_limit: int = 0, telemetry: Telemetry | None = None) -> None:
        self._discover_path = discover_path
        self._hash = discover_path and size_limit >= 0
        self._digests = ExecutableDigests(size_limit)
        self._omitted = (telemetry or Telemetry()).counter(
            "workload_attestor_unix_omitted_total", "Selectors left out since they could not be found out"
        )
        self._told: set[str] = set()
        self._limiter = CapacityLimiter(_THREADS)
        self._threads = 0
        self._lock = threading.Lock()

    async def attest(self, peer: PeerCredentials) -> frozenset[Selector]:
        """What the kernel tells of the process.

        Raises:
            CallerGoneError: it has ended or changed.
            ProcessUnreadableError: /proc does not show it.
            OperatorError: too many earlier attestations hang, in a name service or on a file system.
        """
        # A thread that hangs cannot be ended; when the deadline passes it is left behind, and those are bounded.
        return await anyio.to_thread.run_sync(self._attest, peer, abandon_on_cancel=True, limiter=self._limiter)

    def _attest(self, peer: PeerCredentials) -> frozenset[Selector]:
        with self._lock:
            if self._threads >= _STUCK_THREADS:
                raise OperatorError("too many attestations hang in a name service or on a file system")
            self._threads += 1
        try:
            facts = peer.verify_still_same()
            return frozenset(Selector(self.name, value) for value in self._values(peer, facts))
        finally:
            with self._lock:
                self._threads -= 1

    def _values(self, peer: PeerCredentials, facts: ProcessFacts) -> Iterator[str]:
        yield f"uid:{facts.uid}"
        if user := _user_name(facts.uid):
            yield f"user:{user}"
        yield f"gid:{facts.gid}"
        if group := _group_name(facts.gid):
            yield f"group:{group}"
        for gid in unambiguous_gids(facts.supplementary_gids):
            yield f"supplementary_gid:{gid}"
            if group := _group_name(gid):
                yield f"supplementary_group:{group}"
        if self._discover_path:
            try:
                yield f"path:{executable_path(peer, facts)}"
            except PathUnknownError as error:
                self._omit("path", peer, error)
        if self._hash:
            try:
                yield f"sha256:{self._digests.digest(peer, facts)}"
            except UndigestableError as error:
                self._omit("sha256", peer, error)

    def _omit(self, kind: str, peer: PeerCredentials, error: OperatorError) -> None:
        self._omitted.increment(kind=kind)
        # Aloud once for each reason; containers, whose paths are not ours, would fill the log.
        level = logging.DEBUG if str(error) in self._told or len(self._told) > _STUCK_THREADS else logging.WARNING
        self._told.add(str(error))
        _log.log(level, "Selector left out selector=unix:%s pid=%d reason=%r", kind, peer.pid, str(error))


def executable_path(peer: PeerCredentials, facts: ProcessFacts) -> str:
    """The path of the file a process runs, if that path leads us to the same file.

    Raises:
        PathUnknownError: the process lives in another mount namespace, the file was replaced or removed, or we may
            not know.
        CallerGoneError: the process has ended.
    """
    if facts.executable is None or facts.mount_namespace is None:
        raise PathUnknownError("this daemon may not inspect the process (it needs CAP_SYS_PTRACE, or the same user)")
    if facts.mount_namespace != own_mount_namespace():
        raise PathUnknownError("the process lives in another mount namespace, where paths mean other files")
    try:
        path = peer.process.executable_path()
        path.encode()
        ours = Path(path).stat()
    except ProcessGoneError as error:
        raise CallerGoneError(str(error)) from error
    except UnicodeEncodeError as error:
        raise PathUnknownError("the path is not UTF-8") from error
    except OSError as error:
        raise PathUnknownError(f"the path leads nowhere: {error.strerror}") from error
    if not Executable.of(ours).same_file(facts.executable):
        raise PathUnknownError("the path leads to another file than the one that runs (was it replaced?)")
    return path


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return ""


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OverflowError):
        return ""


def read(data: Fields) -> MakeWorkloadAttestor:
    """Read the settings.

    Raises:
        ConfigurationError: a key is unknown, or of the wrong kind.
    """
    with data:
        return UnixSettings(data.boolean("discover_workload_path") or False, data.integer("workload_size_limit") or 0)
