"""One process as /proc shows it, pinned so that a later process with the same number is never mistaken for it."""

import contextlib
import os
import select
import weakref
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from authsec_sdk.errors import OperatorError, SpiffeError

_READ_LIMIT = 1 << 20
_DEAD_STATES = frozenset({b"Z", b"X", b"x"})


class ProcessGoneError(SpiffeError):
    """The process has ended, or another one has its number now."""


class ProcessUnreadableError(OperatorError):
    """/proc does not show the process to us: hidden (`hidepid`), in another pid namespace, or not mounted."""


@dataclass(frozen=True, slots=True)
class Executable:
    """Which file a process runs, and in which state of that file."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """The identity of the file that was looked at."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def same_file(self, other: "Executable") -> bool:
        """Whether the two are one file; a running one may be renamed, unlinked or chmod-ed meanwhile."""
        return (self.device, self.inode) == (other.device, other.inode)


@dataclass(frozen=True, slots=True)
class Namespace:
    """Names a kernel namespace."""

    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """What /proc says of a process at one moment. IDs are the effective ones, as our own user namespace sees them.

    `executable` and `mount_namespace` are None where we are not allowed to know.
    """

    start_time: int
    uid: int
    gid: int
    supplementary_gids: tuple[int, ...]
    executable: Executable | None
    mount_namespace: Namespace | None

    def same_as(self, other: "ProcessFacts") -> bool:
        """Whether nothing changed that an attestor looks at. A file that is merely renamed or unlinked is the same."""
        mine, theirs = self.executable, other.executable
        same_program = mine.same_file(theirs) if mine is not None and theirs is not None else mine is theirs
        return same_program and replace(self, executable=None) == replace(other, executable=None)


def proc_root() -> str:
    """Where the node's /proc is: `HOST_PROC`, else `/proc`."""
    return os.environ.get("HOST_PROC") or "/proc"


def own_mount_namespace() -> Namespace:
    """The mount namespace we live in: only in this one do the paths of others mean what they mean to us."""
    status = Path("/proc/self/ns/mnt").stat()
    return Namespace(status.st_dev, status.st_ino)


class Process:
    """A process held by its directory in /proc and, where the kernel gives one, its pidfd.

    What holds: every read is of the process that was there at construction, or raises `ProcessGoneError`; its number
    may be given out again meanwhile. Takes over `pidfd` and closes it. Closed at the latest when collected.

    Raises:
        ProcessGoneError: it had ended by the time it was pinned.
        ProcessUnreadableError: /proc does not show it.
    """

    def __init__(self, pid: int, *, pidfd: int | None = None, root: str | None = None) -> None:
        self.pid = pid
        self.pidfd = pidfd
        descriptors = [] if pidfd is None else [pidfd]
        self._finalizer = weakref.finalize(self, _close_all, descriptors)
        try:
            self._directory = os.open(f"{root or proc_root()}/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            self.close()
            raise self._missing(error) from error
        descriptors.append(self._directory)
        try:
            # Read after both are open: the pidfd still being alive proves that the directory is this process's.
            self.start_time = self._read_start_time()
            self.check_alive()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the process. Idempotent; reading afterwards raises `ProcessGoneError`."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check_alive(self) -> None:
        """Refuse a process that has ended.

        Raises:
            ProcessGoneError: it has.
        """
        if not self._finalizer.alive:
            raise ProcessGoneError(f"process {self.pid} was let go of")
        if self.pidfd is not None:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            if poll.poll(0):
                raise ProcessGoneError(f"process {self.pid} has ended")

    def facts(self) -> ProcessFacts:
        """Look at the process now.

        Raises:
            ProcessGoneError: it has ended, or its number belongs to another.
            ProcessUnreadableError: we may not see even who it runs as.
        """
        uid, gid, groups = self._read_status()
        executable, mounts = self._stat("exe"), self._stat("ns/mnt")
        if self._read_start_time() != self.start_time:
            raise ProcessGoneError(f"process {self.pid} is another one than before")
        self.check_alive()
        return ProcessFacts(
            start_time=self.start_time,
            uid=uid,
            gid=gid,
            supplementary_gids=groups,
            executable=Executable.of(executable) if executable else None,
            mount_namespace=Namespace(mounts.st_dev, mounts.st_ino) if mounts else None,
        )

    def executable_path(self) -> str:
        """The path of the executable as the kernel spells it for us; it means something only in our mount namespace.

        Raises:
            ProcessGoneError: the process has ended.
            PermissionError: we may not know.
        """
        try:
            return os.readlink("exe", dir_fd=self._open_directory())
        except (FileNotFoundError, ProcessLookupError) as error:
            raise ProcessGoneError(f"process {self.pid} has ended") from error

    def read_cgroups(self) -> bytes:
        """The text of its `cgroup` file, as our own cgroup namespace sees it (cgroups(7)).

        Raises:
            ProcessGoneError: the process has ended.
            ProcessUnreadableError: we may not know.
        """
        text = self._read("cgroup")
        self.check_alive()
        return text

    def open_executable(self) -> int:
        """A descriptor of the file the process runs, whatever its path is now. The caller closes it.

        Raises:
            ProcessGoneError: the process has ended.
            PermissionError: we may not read it.
        """
        try:
            # Non-blocking, lest a process make us wait: what runs is a regular file, and those ignore the flag.
            return os.open("exe", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=self._open_directory())
        except (FileNotFoundError, ProcessLookupError) as error:
            raise ProcessGoneError(f"process {self.pid} has ended") from error

    def _open_directory(self) -> int:
        if not self._finalizer.alive:
            raise ProcessGoneError(f"process {self.pid} was let go of")
        return self._directory

    def _read_start_time(self) -> int:
        return parse_start_time(self._read("stat"), self.pid)

    def _read_status(self) -> tuple[int, int, tuple[int, ...]]:
        return parse_status(self._read("status"), self.pid)

    def _read(self, name: str) -> bytes:
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._open_directory())
            with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
                return file.read(_READ_LIMIT)
        except OSError as error:
            raise self._missing(error) from error

    def _stat(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self._open_directory())
        except OSError:
            return None  # not allowed, or gone; which of the two, the reads of `stat` and the pidfd tell

    def _missing(self, error: OSError) -> SpiffeError:
        if isinstance(error, ProcessLookupError):
            return ProcessGoneError(f"process {self.pid} has ended")
        if isinstance(error, FileNotFoundError) and not _exists(self.pid):
            return ProcessGoneError(f"process {self.pid} has ended")
        return ProcessUnreadableError(
            f"process {self.pid} cannot be looked at ({error.strerror}): "
            f"mount /proc without hidepid, or give this daemon the group that may see it"
        )


def parse_start_time(stat: bytes, pid: int) -> int:
    """Field 22 of `/proc/PID/stat`: clock ticks from boot to the start of the process.

    The second field is the program's name as the program chose it; only the last parenthesis ends it.

    Raises:
        ProcessGoneError: only a zombie is left.
        ProcessUnreadableError: this is no such line.
    """
    _, parenthesis, rest = stat.rpartition(b") ")
    words = rest.split()
    if not parenthesis or len(words) < 20 or not words[19].isdigit():
        raise ProcessUnreadableError(f"/proc/{pid}/stat has an unknown form")
    if words[0] in _DEAD_STATES:
        raise ProcessGoneError(f"process {pid} has ended")
    return int(words[19])


def parse_status(status: bytes, pid: int) -> tuple[int, int, tuple[int, ...]]:
    """Effective user, effective group and supplementary groups of `/proc/PID/status`.

    Raises:
        ProcessUnreadableError: a line is missing or malformed.
    """
    lines = dict(line.split(b":", 1) for line in status.splitlines() if b":" in line)
    try:
        uid = int(lines[b"Uid"].split()[1])
        gid = int(lines[b"Gid"].split()[1])
        groups = tuple(int(word) for word in lines[b"Groups"].split())
    except (KeyError, IndexError, ValueError) as error:
        raise ProcessUnreadableError(f"/proc/{pid}/status has an unknown form") from error
    return uid, gid, groups


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
