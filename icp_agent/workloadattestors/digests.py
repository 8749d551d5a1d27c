"""SHA-256 of the files processes run: bounded in size, and remembered only for the very process it was taken of."""

import hashlib
import os
import stat
import threading
from collections import OrderedDict
from typing import TypeAlias

from authsec_sdk.errors import OperatorError
from icp_common.peer_credentials import CallerGoneError, PeerCredentials
from icp_common.process import Executable, Namespace, ProcessFacts, ProcessGoneError

_CHUNK = 1 << 20
_REMEMBERED = 1024

_Key: TypeAlias = tuple[int, int, int, int, Namespace | None, Executable]


class UndigestableError(OperatorError):
    """The executable has no digest: too large, unreadable, no regular file, or it changed while it was read."""


class ExecutableDigests:
    """Hashes executables; blocking, safe in threads.

    A digest is remembered for one process (pid and start time), its user and group, its mount namespace, and the file
    in this state (device, inode, size, times): change any and the file is read again. A file's identity alone would
    not do, as device and inode numbers are given out again and some file systems make them up.
    """

    def __init__(self, size_limit: int, *, remembered: int = _REMEMBERED) -> None:
        self._size_limit = size_limit
        self._remembered = remembered
        self._digests: OrderedDict[_Key, str] = OrderedDict()
        self._lock = threading.Lock()

    def digest(self, peer: PeerCredentials, facts: ProcessFacts) -> str:
        """The digest of what the process runs, as lower-case hexadecimal.

        Raises:
            UndigestableError: it has none.
            CallerGoneError: the process has ended or runs another file than `facts` say.
        """
        if facts.executable is None:
            raise UndigestableError("the executable cannot be looked at: this daemon may not inspect the process")
        key = (peer.pid, facts.start_time, facts.uid, facts.gid, facts.mount_namespace, facts.executable)
        with self._lock:
            known = self._digests.get(key)
            if known is not None:
                self._digests.move_to_end(key)
                return known
        digest = self._read(peer, facts.executable)
        with self._lock:
            self._digests[key] = digest
            while len(self._digests) > self._remembered:
                self._digests.popitem(last=False)
        return digest

    def __len__(self) -> int:
        return len(self._digests)

    def _read(self, peer: PeerCredentials, expected: Executable) -> str:
        try:
            descriptor = peer.process.open_executable()
        except ProcessGoneError as error:
            raise CallerGoneError(str(error)) from error
        except OSError as error:
            raise UndigestableError(f"the executable cannot be read: {error.strerror}") from error
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor, not a path
            status = os.fstat(descriptor)
            if not Executable.of(status).same_file(expected):
                raise CallerGoneError(f"process {peer.pid} has executed another program")
            if not stat.S_ISREG(status.st_mode):
                raise UndigestableError("the executable is not a regular file")
            digest, size = hashlib.sha256(), 0
            self._check_size(status.st_size)
            try:
                while chunk := file.read(_CHUNK):
                    size += len(chunk)
                    self._check_size(size)
                    digest.update(chunk)
            except OSError as error:
                raise UndigestableError(f"the executable cannot be read: {error.strerror}") from error
            after = os.fstat(descriptor)
        if (status.st_size, status.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or size != after.st_size:
            raise UndigestableError("the executable changed while it was read")
        return digest.hexdigest()

    def _check_size(self, size: int) -> None:
        if 0 < self._size_limit < size:
            raise UndigestableError(f"the executable is larger than workload_size_limit ({self._size_limit} bytes)")
