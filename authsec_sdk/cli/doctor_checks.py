"""The checks of ``authsec doctor``, in the order in which one rests on another."""

import asyncio
import os
import platform
import resource
import socket
import ssl
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from authsec_sdk.errors import NoIdentityError, SpiffeError, WorkloadAPIError
from authsec_sdk.spiffe import X509Context
from authsec_sdk.workloadapi import Endpoint, UnixEndpoint, WorkloadAPIClient, resolve_endpoint

__all__ = ["CHECKS", "Finding", "Patient"]

_ENTRY: Final = (
    "is there a registration entry whose selectors all fit this process (uid, path, pod), and whose parent is this"
    " node's agent? New entries take up to five seconds"
)
_FEW_DESCRIPTORS: Final = 256
_AGENTS: Final = {"spire-agent": "SPIRE's agent", "icp-agent": "icp-agent"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it."""

    result: str
    detail: str
    remedy: str = ""


def _ok(detail: str) -> Finding:
    return Finding("ok", detail)


@dataclass(slots=True)
class Patient:
    """Where to look, and what earlier checks have found out."""

    address: str | None
    timeout: float
    context: X509Context | None = None
    _resolved: Endpoint | None = field(default=None)

    @property
    def endpoint(self) -> Endpoint:
        """The agent's address."""
        if self._resolved is None:
            self._resolved = resolve_endpoint(self.address)
        return self._resolved

    @property
    def path(self) -> Path | None:
        """The socket, where it is a file."""
        endpoint = self.endpoint
        return Path(endpoint.path) if isinstance(endpoint, UnixEndpoint) and not endpoint.abstract else None


def _runtime(_patient: Patient) -> Finding:
    try:
        from authsec_sdk import tls  # its import runs the self-test of the hooks it rests on, and fails closed
    except (SpiffeError, ImportError, RuntimeError) as error:
        return Finding("FAILED", str(error), "use a CPython of a version that pyproject.toml names")
    tested = f"{tls.SpiffeSSLContext.__name__} passed its self-test"
    return _ok(f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}; {tested}")


def _environment(_patient: Patient) -> Finding:
    if os.environ.get("SSLKEYLOGFILE"):
        detail = f"SSLKEYLOGFILE is set: programs write the secrets of TLS to {os.environ['SSLKEYLOGFILE']!r}"
        return Finding("warning", detail, "unset it where nobody is debugging")
    value = os.environ.get("SPIFFE_ENDPOINT_SOCKET")
    return _ok("SPIFFE_ENDPOINT_SOCKET is not set" if value is None else f"SPIFFE_ENDPOINT_SOCKET={value[:200]}")


def _descriptors(_patient: Patient) -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        used = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only their number
    except OSError:
        used = 0
    if soft != resource.RLIM_INFINITY and soft < _FEW_DESCRIPTORS:
        return Finding("warning", f"at most {soft} open files, each connection is one", "raise it: ulimit -n 4096")
    return _ok(f"{used} open of {'any number' if soft == resource.RLIM_INFINITY else soft}")


def _clock(_patient: Patient) -> Finding:
    now, built = datetime.now(UTC), datetime.fromtimestamp(Path(__file__).stat().st_mtime, UTC)
    if now < built:
        return Finding("FAILED", f"it is {now:%FT%TZ}, earlier than these files", "set the clock; run an NTP client")
    return _ok(f"{now:%FT%TZ}")


def _address(patient: Patient) -> Finding:
    try:
        return _ok(str(patient.endpoint))
    except SpiffeError as error:
        return Finding("FAILED", str(error), "set SPIFFE_ENDPOINT_SOCKET, or give --socket")


def _socket(patient: Patient) -> Finding:
    path = patient.path
    if path is None:
        return _ok(f"{patient.endpoint}: nothing to look at before connecting")
    for parent in reversed(path.parents):
        if parent.exists() and not os.access(parent, os.X_OK):
            return Finding("FAILED", f"{parent} may not be entered by uid {os.geteuid()}", f"run: chmod o+x {parent}")
    try:
        status = path.stat()
    except FileNotFoundError:
        detail = f"{path} does not exist: is the agent running, and its folder mounted here?"
        return Finding("FAILED", detail, "start the agent, or mount its folder (not the socket: it changes)")
    except OSError as error:
        return Finding("FAILED", f"{path}: {error.strerror}", "look at the folders on the way to it")
    if not stat.S_ISSOCK(status.st_mode):
        return Finding("FAILED", f"{path} is no socket", "look at SPIFFE_ENDPOINT_SOCKET")
    if not os.access(path, os.W_OK):
        detail = f"{path} (owner uid {status.st_uid}) may not be written to by uid {os.geteuid()}"
        return Finding("FAILED", detail, "agents give their socket the mode 0777; a volume or umask took it away")
    return _ok(f"{path}, owner uid {status.st_uid}, mode {stat.S_IMODE(status.st_mode):04o}")


def _listener(patient: Patient) -> Finding:
    endpoint = patient.endpoint
    if not isinstance(endpoint, UnixEndpoint) or not hasattr(socket, "SO_PEERCRED"):
        return _ok("not on a Unix socket: the kernel does not tell")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(patient.timeout)
        try:
            connection.connect(endpoint.socket_address)
        except OSError as error:
            detail = f"{endpoint}: {error.strerror or error}"
            return Finding("FAILED", detail, "nobody listens on this socket: is the agent running?")
        pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    name = _program(pid)
    said = f"{_AGENTS.get(name, name or 'a process that cannot be seen from here')}, uid {uid}"
    if uid not in (0, os.geteuid()) and patient.path is not None and _anybody_may_make(patient.path):
        remedy = "make sure that this is the agent; expected_agent_uid refuses anybody else"
        return Finding("warning", f"{said}, in a folder where everybody may make sockets", remedy)
    return _ok(said)


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _anybody_may_make(path: Path) -> bool:
    return any(parent.exists() and parent.stat().st_mode & stat.S_IWOTH for parent in path.parents)


def _header(patient: Patient) -> Finding:
    """An agent has to refuse calls without the header, as a web page could make (Workload Endpoint 3)."""
    from authsec_sdk.proto import workload_grpc, workload_pb2
    from authsec_sdk.rpc import GRPCError, Status
    from authsec_sdk.workloadapi.connection import open_channel
    from authsec_sdk.workloadapi.limits import UpdateLimits

    async def ask() -> Finding:
        async with open_channel(patient.endpoint, UpdateLimits()) as channel:
            stub = workload_grpc.SpiffeWorkloadAPIStub(channel)
            async with stub.FetchX509Bundles.open(timeout=patient.timeout) as stream:
                await stream.send_message(workload_pb2.X509BundlesRequest(), end=True)
                await stream.recv_message()
        return Finding("warning", "it answers calls without the security header", "report that to who made this agent")

    try:
        return asyncio.run(ask())
    except GRPCError as error:
        if error.status is Status.INVALID_ARGUMENT:
            return _ok("calls without the security header are refused, as they must be")
        if error.status is Status.UNIMPLEMENTED:
            return Finding("FAILED", "what listens there has no Workload API", "look at SPIFFE_ENDPOINT_SOCKET")
        if error.status is Status.UNAVAILABLE:
            return Finding("FAILED", f"it hangs up: {error.message}", "is it an agent? Look at its log")
        return _ok(f"answers {error.status.name}")
    except (OSError, SpiffeError, TimeoutError) as error:
        return Finding("FAILED", str(error) or type(error).__name__, "is it an agent? Look at its log")


def _identity(patient: Patient) -> Finding:
    async def ask() -> X509Context:
        async with WorkloadAPIClient(patient.address) as client:
            return await client.fetch_x509_context(timeout=patient.timeout)

    try:
        patient.context = asyncio.run(ask())
    except NoIdentityError as error:
        return Finding("FAILED", str(error), _ENTRY)
    except WorkloadAPIError as error:
        return Finding("FAILED", str(error), "is it an agent that serves the SPIFFE Workload API?")
    except (SpiffeError, OSError) as error:
        return Finding("FAILED", str(error), "look at the agent's log: does it reach its server?")
    svids = ", ".join(f"{svid.id}{f' (hint {svid.hint})' if svid.hint else ''}" for svid in patient.context.svids)
    return _ok(svids) if svids else Finding("FAILED", "bundles, but no identity", _ENTRY)


def _life(patient: Patient) -> Finding:
    assert patient.context is not None
    now, svid = datetime.now(UTC), patient.context.svid
    left, whole = (svid.not_after - now).total_seconds(), (svid.not_after - svid.not_before).total_seconds()
    if now < svid.not_before:
        detail = f"it begins in {-(now - svid.not_before).total_seconds():.0f} s: this clock is behind the server's"
        return Finding("FAILED", detail, "compare the clocks; run an NTP client")
    if left <= 0:
        detail = f"it expired {-left:.0f} s ago; compare the clocks, and look whether the agent reaches its server"
        return Finding("FAILED", detail, "an agent that cannot renew says why in its log")
    detail = f"{left:.0f} s left of {whole:.0f}"
    if left < whole / 4:
        return Finding("warning", detail, "agents renew after half of it: look at the agent's log")
    return _ok(detail)


def _trust(patient: Patient) -> Finding:
    assert patient.context is not None
    context, now = patient.context, datetime.now(UTC)
    domain = context.svid.id.trust_domain
    bundle = context.bundles.get(domain)
    if not bundle:
        return Finding("FAILED", f"no authority of {domain}: no peer there can be verified", "look at the server")
    alive = [one for one in bundle.authorities if one.not_valid_before_utc <= now < one.not_valid_after_utc]
    if not alive:
        return Finding("FAILED", f"every authority of {domain} has expired", "look whether the server rotates its CA")
    others = sorted(str(other) for other in context.bundles if other != domain)
    return _ok(f"{len(bundle)} authorities of {domain}; federated: {', '.join(others) or 'none'}")


def _tokens(patient: Patient) -> Finding:
    async def ask() -> str:
        async with WorkloadAPIClient(patient.address) as client:
            bundles = await client.fetch_jwt_bundles(timeout=patient.timeout)
            return ", ".join(f"{domain}: {len(bundles[domain])} keys" for domain in sorted(bundles))

    try:
        return _ok(asyncio.run(ask()) or "no keys")
    except (SpiffeError, OSError) as error:
        return Finding("warning", str(error), "of no matter where nobody uses JWT-SVIDs")


CHECKS: Final[tuple[tuple[str, tuple[str, ...], Callable[[Patient], Finding]], ...]] = (
    ("Python and OpenSSL", (), _runtime),
    ("environment", (), _environment),
    ("file descriptors", (), _descriptors),
    ("clock", (), _clock),
    ("address of the Workload API", (), _address),
    ("socket", ("address of the Workload API",), _socket),
    ("who listens", ("socket",), _listener),
    ("security header", ("who listens",), _header),
    ("identity", ("security header",), _identity),
    ("life of the identity", ("identity",), _life),
    ("authorities", ("identity",), _trust),
    ("JWT-SVIDs", ("identity",), _tokens),
)
"""Each check's name, the names of those it rests on, and what it does."""
