"""A real PostgreSQL server, one for all tests here, whose certificate and trust follow a source."""

import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from authsec_sdk.spiffe import SpiffeID

PATIENCE = 20.0
SSL_REQUEST = struct.pack("!II", 8, 80877103)
OPEN_TO_MEMBERS = "hostssl all all 127.0.0.1/32 trust clientcert=verify-ca\n"


def binary(name: str) -> str | None:
    installed = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")  # where Debian keeps them, off PATH
    versions = sorted(installed, key=lambda path: float(path.parts[4]))
    return str(versions[-1]) if versions else shutil.which(name)


def user_of_server() -> tuple[int, int]:
    """Return whose the server is to be: PostgreSQL refuses to be root's."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    names = {entry.pw_name: (entry.pw_uid, entry.pw_gid) for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]


class PostgresServer:
    """One cluster that runs. Administrators connect over its Unix socket, everybody else as pg_hba.conf says."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.uid, self.gid = user_of_server()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self._reloading = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def _as_server(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    @contextmanager
    def running(self) -> Iterator["PostgresServer"]:
        os.chown(self.folder, self.uid, self.gid)
        initdb = [
            binary("initdb"),
            "-D",
            str(self.data),
            "-U",
            "admin",
            "-A",
            "trust",
            "-N",
            "-E",
            "UTF8",
            "--locale=C",
        ]
        subprocess.run(initdb, check=True, capture_output=True, cwd=self.folder, **self._as_server())
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.write(
                f"listen_addresses='127.0.0.1'\nport={self.port}\nunix_socket_directories='{self.folder}'\nfsync=off\n"
                "log_connections=on\nssl_ca_file='root.crt'\nssl_min_protocol_version='TLSv1.3'\nmax_connections=40\n"
            )
        self.write("pg_hba.conf", "local all admin trust\n")
        with (self.folder / "log").open("wb") as log:
            command = [str(binary("postgres")), "-D", str(self.data)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **self._as_server())
            try:
                self._wait()
                with self.admin() as admin:
                    admin.execute("CREATE EXTENSION sslinfo")
                    for role in ("billing", "reports"):
                        admin.execute(f"CREATE ROLE {role} LOGIN")
                yield self
            finally:
                self._process.send_signal(signal.SIGINT)
                self._process.wait(PATIENCE)

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.admin().close()
                return
            except psycopg.OperationalError:
                assert self._process is not None
                assert self._process.poll() is None, self.log()
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.05)

    def admin(self) -> psycopg.Connection[Any]:
        return psycopg.connect(host=str(self.folder), port=self.port, user="admin", dbname="postgres", autocommit=True)

    def sql(self, statement: str) -> Any:
        with self.admin() as admin:
            row = admin.execute(statement).fetchone()
            return row[0] if row else None

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def write(self, name: str, content: str | bytes, mode: int = 0o600) -> None:
        temporary = self.data / f".{name}.new"
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.chmod(mode)
        os.chown(temporary, self.uid, self.gid)
        temporary.rename(self.data / name)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def present(self, context: Any, hba: str = OPEN_TO_MEMBERS, ident: str = "") -> None:
        """Serve with an identity, and return once the server does."""
        svid = context.svid
        with self._reloading:
            self.write("pg_hba.conf", f"local all admin trust\n{hba}")
            self.write("pg_ident.conf", ident)
            self.write("server.key", svid.private_key.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))  # fmt: skip
            self.write("server.crt", b"".join(cert.public_bytes(Encoding.PEM) for cert in svid.certificates))
            self.write("root.crt", context.bundles.require(svid.id.trust_domain).to_pem())
            conf = (self.data / "postgresql.conf").read_text()
            if "\nssl=on" not in conf:
                self.write("postgresql.conf", conf + "\nssl=on\n")
            os.kill(self.pid, signal.SIGHUP)
            self.wait_until_presented(svid.leaf)

    def wait_until_presented(self, leaf: x509.Certificate) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.presented() != leaf:
            assert time.monotonic() < deadline, self.log()[-2000:]
            time.sleep(0.005)

    def presented(self) -> x509.Certificate | None:
        """Return the certificate that the server shows whoever comes."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as sock:
            sock.sendall(SSL_REQUEST)
            if sock.recv(1) != b"S":
                return None
            with context.wrap_socket(sock) as tls:
                return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
        return None

    def authorized(self) -> int:
        """How many TLS connections got in so far."""
        return self.log().count(" SSL enabled (")


def unique_subject(spiffe_id: SpiffeID) -> x509.Name:
    """Return the subject that SPIRE's ``uniqueid`` composer gives an SVID."""
    value = hashlib.sha256(str(spiffe_id).encode()).hexdigest()[:32]
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SPIRE"),
            x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, value),
        ]
    )


@pytest.fixture
def subject_of() -> Any:
    return unique_subject


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    if binary("initdb") is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short, for its Unix socket
    try:
        with PostgresServer(folder).running() as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Followed:
    """The server as one row of the contract sees it: presenting what a source publishes."""

    def __init__(self, server: PostgresServer, source: Any) -> None:
        self.port, self._server, self._before = server.port, server, server.authorized()
        server.present(source.x509_context)
        self._remove = source._add_listener(server.present)

    @property
    def hits(self) -> int:
        return self._server.authorized() - self._before

    def close(self) -> None:
        self._remove()


@pytest.fixture
def follow(postgres: PostgresServer) -> Any:
    @contextmanager
    def follow(source: Any) -> Iterator[Followed]:
        followed = Followed(postgres, source)
        try:
            yield followed
        finally:
            followed.close()

    return follow
