"""Where the Workload API is: the address rules of the SPIFFE Workload Endpoint standard, section 4; pure.

| text | meaning |
|---|---|
| `unix:///run/agent.sock`, `unix:/run/agent.sock` | a Unix socket, absolute path, percent-decoded (RFC 3986) |
| `tcp://127.0.0.1:8000`, `tcp://[::1]:8000` | a TCP port of an IP address, never of a name |
| `/run/agent.sock` | a bare absolute path, taken as it is; not in the standard, for humans |
| `unix-abstract:name`, `@name` | a Linux abstract socket; not in the standard, spelt as gRPC spells it |
"""

import ipaddress
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn
from urllib.parse import quote, unquote_to_bytes

from authsec_sdk.errors import InvalidEndpointError

__all__ = ["SOCKET_ENV", "Endpoint", "TCPEndpoint", "UnixEndpoint", "parse_endpoint", "resolve_endpoint"]

SOCKET_ENV: Final = "SPIFFE_ENDPOINT_SOCKET"
"""The environment variable in which the standard lets a workload find its agent."""

MAX_SOCKET_PATH: Final = 107 if sys.platform == "linux" else 103
"""Bytes in `sockaddr_un.sun_path`, without the terminating zero."""

_EXAMPLES: Final = "for example unix:///run/spire/sockets/agent.sock or tcp://127.0.0.1:8000"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HOST_PORT = re.compile(r"(?:\[(?P<six>[^\[\]]*)\]|(?P<four>[^:\[\]]*))(?::(?P<port>.*))?", re.DOTALL)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)


@dataclass(frozen=True, slots=True)
class UnixEndpoint:
    """A Unix socket: an absolute path in the file system, or a name in Linux' abstract namespace.

    Nobody guards an abstract name: any process of the network namespace can take it while the agent is away.
    Whether anything listens is not checked.
    """

    path: str
    abstract: bool = False

    def __str__(self) -> str:
        """Return the address as `parse_endpoint` reads it."""
        if self.abstract:
            return f"unix-abstract:{quote(os.fsencode(self.path), safe='/@._-:')}"
        return f"unix://{quote(os.fsencode(self.path), safe='/@._-:')}"

    @property
    def socket_address(self) -> bytes:
        """The address as `socket.connect` takes it."""
        return (b"\0" if self.abstract else b"") + os.fsencode(self.path)


@dataclass(frozen=True, slots=True)
class TCPEndpoint:
    """An IP address and a port. What is said there is not encrypted: for one host or pod only (standard, section 3)."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return the address as `parse_endpoint` reads it."""
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


Endpoint = UnixEndpoint | TCPEndpoint


def resolve_endpoint(address: str | None = None, environ: Mapping[str, str] | None = None) -> Endpoint:
    """Return the endpoint that `address` names, or where it is None the one the environment names.

    There is no default: guessing a path would mean trusting whoever made a socket there.

    Raises:
        InvalidEndpointError: neither is given, or the one given breaks a rule; the text says what to write instead.
    """
    if address is not None:
        return parse_endpoint(address, "the Workload API address")
    value = (os.environ if environ is None else environ).get(SOCKET_ENV, "")
    if not value:
        raise InvalidEndpointError(
            f"where is the SPIFFE Workload API? Give its address, or set {SOCKET_ENV}, {_EXAMPLES}"
        )
    return parse_endpoint(value, SOCKET_ENV)


def parse_endpoint(text: str, what: str = "the Workload API address") -> Endpoint:
    """Read one address; `what` is what errors call it.

    Raises:
        InvalidEndpointError: the text breaks a rule.
    """
    if not isinstance(text, str):
        raise InvalidEndpointError(f"{what} must be str, not {type(text).__name__}")
    shown = f"{what} {text[:200]!r}"
    if not text:
        raise InvalidEndpointError(f"{what} is empty; write {_EXAMPLES}")
    if text != text.strip() or _CONTROL.search(text):
        raise InvalidEndpointError(f"{shown} has blanks around it or control characters in it; remove them")
    if text.startswith("/"):
        return _unix(text, shown)
    if text.startswith("@"):
        return _abstract(text[1:], shown)
    match = _SCHEME.fullmatch(text)
    if match is None:
        raise InvalidEndpointError(f"{shown} is neither a URI nor an absolute path; write {_EXAMPLES}")
    scheme, rest = match[1].lower(), match[2]
    if scheme == "unix-abstract":
        return _abstract(_decoded(rest, shown), shown)
    if scheme not in ("unix", "tcp"):
        raise InvalidEndpointError(f"{shown} must have the scheme unix or tcp, {_EXAMPLES}")
    for mark, part in ("?", "query"), ("#", "fragment"):
        if mark in rest:
            raise InvalidEndpointError(f"{shown} must not have a {part} ({mark!r}); remove it, or write %{ord(mark):X}")
    return _unix_uri(rest, shown) if scheme == "unix" else _tcp_uri(rest, shown)


def _unix_uri(rest: str, shown: str) -> UnixEndpoint:
    if rest.startswith("//"):
        authority, slash, path = rest[2:].partition("/")
        if "@" in authority:
            raise InvalidEndpointError(f"{shown} must not have user information; write unix:///path")
        if authority:
            raise InvalidEndpointError(
                f"{shown} must not have an authority (what stands between // and the next /): "
                f"a socket path is absolute and takes three slashes; did you mean unix:///{rest[2:][:150]}?"
            )
        rest = slash + path
    if not rest or rest == "/":
        raise InvalidEndpointError(f"{shown} names no socket; write unix:///path/of/the/socket")
    if not rest.startswith("/"):
        raise InvalidEndpointError(f"{shown} must hold an absolute path; did you mean unix:///{rest[:150]}?")
    return _unix(_decoded(rest, shown), shown)


def _unix(path: str, shown: str) -> UnixEndpoint:
    if path.endswith("/"):
        raise InvalidEndpointError(f"{shown} names a directory; write the path of the socket in it")
    _check_length(path, shown)
    return UnixEndpoint(path)


def _abstract(name: str, shown: str) -> UnixEndpoint:
    if sys.platform != "linux":
        raise InvalidEndpointError(f"{shown} is an abstract socket, which only Linux has; use a path")
    if not name:
        raise InvalidEndpointError(f"{shown} names no socket; write unix-abstract:name")
    _check_length(name, shown)
    return UnixEndpoint(name, abstract=True)


def _check_length(path: str, shown: str) -> None:
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH:
        raise InvalidEndpointError(
            f"{shown} is {length} bytes long and a socket path can have {MAX_SOCKET_PATH}; "
            "use a shorter directory, or a symbolic link to it"
        )


def _decoded(text: str, shown: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise InvalidEndpointError(f"{shown} has a % that begins no escape; write %25 for a percent sign")
    raw = unquote_to_bytes(text)
    if any(byte < 0x20 or byte == 0x7F for byte in raw):
        raise InvalidEndpointError(f"{shown} has an escaped control character in it; remove it")
    return os.fsdecode(raw)


def _tcp_uri(rest: str, shown: str) -> TCPEndpoint:
    if not rest.startswith("//"):
        raise InvalidEndpointError(f"{shown} must have two slashes after the scheme; write tcp://IP:port")
    authority, slash, _ = rest[2:].partition("/")
    if "@" in authority:
        raise InvalidEndpointError(f"{shown} must not have user information; write tcp://IP:port")
    if slash:
        raise InvalidEndpointError(f"{shown} must not have a path, not even a slash at its end; write tcp://IP:port")
    match = _HOST_PORT.fullmatch(authority)
    if match is None:
        _refuse_host(shown)
    port = match["port"]
    if match["six"] is not None:
        host = _ip(match["six"], 6, shown)
    elif match["four"]:
        host = _ip(match["four"], 4, shown)
    else:
        raise InvalidEndpointError(f"{shown} must name a host; write tcp://IP:port")
    if port is None or not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise InvalidEndpointError(f"{shown} must end in a port from 1 to 65535; write tcp://IP:port")
    return TCPEndpoint(host, int(port))


def _ip(text: str, version: int, shown: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        _refuse_host(shown)
    if address.version != version or "%" in text:
        _refuse_host(shown)
    return str(address)


def _refuse_host(shown: str) -> NoReturn:
    raise InvalidEndpointError(
        f"{shown} must name its host by IP address (IPv6 in brackets, without a zone), not by a name that can be "
        "resolved otherwise tomorrow; write tcp://127.0.0.1:8000 or tcp://[::1]:8000"
    ) from None
