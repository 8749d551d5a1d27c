"""Whether this CPython's `ssl` still works as our contexts rely on: checked at import, and failing closed.

Our policy hangs on private parts: the hooks `_wrap_bio` and `_wrap_socket`, the attribute `_sslobj` through which
connections do all their work, and the verified chain (public from 3.13). They are the same from 3.11 to 3.14. Should
one of them ever change, a connection could go round the policy without a sign; so nothing of this package is imported
then. The checks run the real objects, without a handshake, in about a millisecond.
"""

from __future__ import annotations

import _ssl
import inspect
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any, Final

__all__ = ["check"]

_HOOKS: Final = {
    "_wrap_bio": ("self", "incoming", "outgoing", "server_side", "server_hostname", "owner", "session"),
    "_wrap_socket": ("self", "sock", "server_side", "server_hostname", "owner", "session"),
}
_RAW: Final = (
    "context",
    "do_handshake",
    "get_unverified_chain",
    "get_verified_chain",
    "getpeercert",
    "owner",
    "read",
    "session_reused",
    "version",
    "write",
)
# Where a socket would be left open without TLS, if ours did not come first.
_SOCKET: Final = ("_checkClosed", "_real_close", "_real_connect", "shutdown")


class _ReachedError(Exception):
    """Raised by the probe: the call came where it has to come."""


class _Probe:
    """Stands where our gate would stand."""

    def __getattr__(self, name: str) -> Any:
        raise _ReachedError(name)


def check(base: type[ssl.SSLContext] = ssl.SSLContext) -> None:
    """Check the parts of `base`, and of the objects it makes, that the policy hangs on.

    Raises:
        ImportError: one is not as it was.
    """
    try:
        _check(base)
    except ImportError:
        raise
    except Exception as error:  # noqa: BLE001 - a part that is missing altogether, or takes other arguments
        _require(False, f"{type(error).__name__}: {error}")


def _check(base: type[ssl.SSLContext]) -> None:
    _require(
        not any(each.__module__.partition(".")[0] == "gevent" for each in (base, *ssl.SSLSocket.__mro__)),
        "gevent has replaced its sockets (monkey.patch_all), and greenlets would go round the handshake's checks; "
        "do TLS with SVIDs in a process that is not patched, with threads or asyncio",
    )
    _require(
        base.__module__ == "ssl",
        f"ssl.SSLContext has been replaced by {base.__module__} (truststore.inject_into_ssl?); "
        "import authsec_sdk.tls before, or do not inject: SPIFFE contexts use no system trust store",
    )
    for hook, parameters in _HOOKS.items():
        _require(
            tuple(inspect.signature(getattr(base, hook, lambda: None)).parameters) == parameters,
            f"SSLContext.{hook} has other parameters",
        )
    _require(hasattr(_ssl, "ENCODING_DER"), "_ssl.ENCODING_DER is gone")
    calls: list[tuple[str, Any, Any]] = []
    context = _recording(base, calls)(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False

    connection: Any = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
    _require_hook("_wrap_bio", calls, connection)
    _require_gate(connection, (connection.do_handshake, lambda: connection.read(1), lambda: connection.write(b"x")))

    ours, theirs = socket.socketpair()
    with ours, theirs:
        tls: Any = context.wrap_socket(ours, do_handshake_on_connect=False)
        with tls:
            _require_hook("_wrap_socket", calls, tls)
            for part in _SOCKET:
                _require(callable(getattr(tls, part, None)), f"SSLSocket.{part} is gone")
            _require(tls._connected is True, "SSLSocket._connected does not tell whether it is")
            uses = (
                tls.do_handshake,
                lambda: tls.read(1),
                lambda: tls.recv(1),
                lambda: tls.recv_into(bytearray(1)),
                lambda: tls.write(b"x"),
                lambda: tls.send(b"x"),
                lambda: tls.sendall(b"x"),
            )
            _require_gate(tls, uses)
            theirs.setblocking(False)
            try:
                sent = theirs.recv(1)
            except BlockingIOError:
                sent = b""
            _require(not sent, "SSLSocket sends past _sslobj")


def _recording(base: type[ssl.SSLContext], calls: list[tuple[str, Any, Any]]) -> type[ssl.SSLContext]:
    class Recording(base):  # type: ignore[valid-type,misc]  # the class to check is an argument
        def _wrap_bio(self, *args: Any, owner: Any = None, **options: Any) -> Any:
            raw = super()._wrap_bio(*args, owner=owner, **options)
            calls.append(("_wrap_bio", owner, raw))
            return raw

        def _wrap_socket(self, *args: Any, owner: Any = None, **options: Any) -> Any:
            raw = super()._wrap_socket(*args, owner=owner, **options)
            calls.append(("_wrap_socket", owner, raw))
            return raw

    return Recording


def _require_hook(name: str, calls: list[tuple[str, Any, Any]], connection: Any) -> None:
    _require(bool(calls) and calls[-1][0] == name, f"connections are not made through SSLContext.{name}")
    _, owner, raw = calls[-1]
    _require(owner is connection, f"SSLContext.{name} is not told the connection it makes")
    _require(getattr(connection, "_sslobj", None) is raw, "a connection does not keep OpenSSL's object in _sslobj")
    for part in _RAW:
        _require(hasattr(raw, part), f"OpenSSL's object has no {part}")
    _require(raw.get_verified_chain() is None, "get_verified_chain() answers before the handshake")


def _require_gate(connection: Any, uses: tuple[Callable[[], Any], ...]) -> None:
    raw, connection._sslobj = connection._sslobj, _Probe()
    for use in uses:
        try:
            use()
        except _ReachedError:
            continue
        _require(False, f"{type(connection).__name__} does not do all its work through _sslobj")
    connection._sslobj = raw


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        version = ".".join(map(str, sys.version_info[:3]))
        raise ImportError(
            f"authsec_sdk.tls does not work safely with this Python, {sys.implementation.name} {version}: {otherwise}. "
            "Use a release of authsec-sdk that knows this version"
        )
