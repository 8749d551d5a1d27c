"""A PostgreSQL server's data directory: write files in it as its owner would, reload the server, end its sessions."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authsec_sdk.errors import ConfigurationError, UnavailableError
from authsec_sdk.spiffe import X509Context

__all__ = ["BUNDLE_FILE", "SVID_FILE", "DataDirectory"]

SVID_FILE: Final = "svid.pem"
BUNDLE_FILE: Final = "svid_bundle.pem"
_PSQL_TIMEOUT: Final = 30
_END_SESSIONS: Final = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) "
    "WHERE ssl AND client_serial IS NOT NULL"
)


@dataclass(frozen=True, slots=True)
class _Postmaster:
    pid: int
    port: str
    socket_directory: str


class DataDirectory:
    """The directory that ``initdb`` made.

    Raises:
        ConfigurationError: it is not one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        if not (self.path / "PG_VERSION").is_file():
            raise ConfigurationError(f"{path} is no data directory of PostgreSQL (no PG_VERSION in it)")
        owner = self.path.stat()
        self._uid, self._gid = owner.st_uid, owner.st_gid

    def read(self, name: str) -> str:
        """Return a file's text; none if it does not exist."""
        try:
            return (self.path / name).read_text()
        except FileNotFoundError:
            return ""

    def write(self, name: str, content: bytes) -> None:
        """Replace a file as a whole, for its owner's eyes only; who reads meanwhile reads the old or the new one."""
        temporary = self.path / f".{name}.{secrets.token_hex(8)}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if os.geteuid() == 0:
                    os.fchown(file.fileno(), self._uid, self._gid)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self.path / name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def install(self, context: X509Context) -> None:
        """Write the SVID with its key, and the authorities of its own trust domain alone.

        A federated domain's authority could sign any subject, and PostgreSQL knows clients by theirs.

        Raises:
            NoIdentityError, NoBundleForTrustDomainError: the context has none.
        """
        svid = context.svid
        bundle = context.bundles.require(svid.id.trust_domain)
        key = svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        chain = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in svid.certificates)
        self.write(BUNDLE_FILE, bundle.to_pem())
        self.write(SVID_FILE, key + chain)

    def reload(self) -> bool:
        """Make the server read its files again, which ends no connection. Returns False when it does not run.

        Raises:
            PermissionError: neither root nor the server's user.
        """
        postmaster = self._postmaster()
        if postmaster is None:
            return False
        os.kill(postmaster.pid, signal.SIGHUP)
        return True

    def end_sessions(self, roles: Iterable[str], *, psql: str | None, username: str) -> int:
        """End the sessions of these roles that came with a certificate; return how many there were.

        Who is still in the map comes in again: PostgreSQL does not tell which certificate a session came with.

        Raises:
            ConfigurationError: there is no ``psql``, or it failed; its words are in the text.
        """
        postmaster = self._postmaster()
        if postmaster is None:
            return 0
        program = psql or shutil.which("psql")
        if program is None:
            raise ConfigurationError("no psql on PATH: name it with --psql, or keep sessions with --keep-sessions")
        names = ", ".join("'" + role.replace("'", "''") + "'" for role in sorted(roles))
        statement = f"{_END_SESSIONS} AND usename IN ({names})"
        where = ["-h", postmaster.socket_directory, "-p", postmaster.port, "-U", username, "-d", "postgres"]
        command = [program, "-X", "-w", "-A", "-t", "-q", *where, "-c", statement]
        as_owner: dict[str, Any] = {}
        if os.geteuid() == 0:
            as_owner = {"user": self._uid, "group": self._gid, "extra_groups": []}
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}  # and no PGHOST or the like
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own psql, with no shell in between
                command,
                cwd=self.path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=_PSQL_TIMEOUT,
                check=False,
                **as_owner,
            )
        except subprocess.TimeoutExpired:
            raise UnavailableError(f"psql did not answer within {_PSQL_TIMEOUT} s") from None
        if done.returncode != 0:
            raise ConfigurationError(f"psql could not end sessions: {done.stderr.strip()}")
        return int(done.stdout)

    def _postmaster(self) -> _Postmaster | None:
        """Return who serves this directory now; a pid that is left over, or is another process by now, is nobody."""
        lines = self.read("postmaster.pid").splitlines()
        if len(lines) < 5 or not lines[0].isdecimal():
            return None
        pid = int(lines[0])
        with contextlib.suppress(FileNotFoundError, PermissionError):  # no /proc, or not ours to look at
            if Path(f"/proc/{pid}/cwd").readlink() != self.path:
                return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        return _Postmaster(pid, lines[3].strip(), lines[4].strip())
