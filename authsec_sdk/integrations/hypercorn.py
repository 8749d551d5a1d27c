"""Hypercorn serving ASGI and WSGI applications over mutual TLS, HTTP/1.1 and HTTP/2 (extra ``hypercorn``).

``await serve(app, source, authorizer, bind=["0.0.0.0:8443"])`` runs on asyncio, uvloop and trio, in the caller's loop.
:func:`run` starts worker processes of any of the three. Certificates follow the source and are in no file; callers are
refused in the handshake; applications read theirs with :func:`authsec_sdk.integrations.asgi.peer_spiffe_id`.
"""

import asyncio
import inspect
import ssl
import types
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from socket import socket
from typing import Any

import hypercorn
from hypercorn.asyncio.run import worker_serve as serve_on_asyncio
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Sockets
from hypercorn.utils import load_application, wrap_app

from authsec_sdk.authz import Authorizer, require_authorizer
from authsec_sdk.errors import CallerError
from authsec_sdk.integrations._asgi_peer import Extensions, TLSConnection, add_extensions, extensions_of
from authsec_sdk.integrations._workers import Supervisor, listening, told_to_stop, where
from authsec_sdk.integrations.asgi import Receive, Scope, Send
from authsec_sdk.spiffe import X509ContextSource
from authsec_sdk.tls import RejectionHook, mtls_server_context
from authsec_sdk.workloadapi import X509Source

__all__ = ["HANDSHAKE_TIMEOUT", "MTLSConfig", "run", "serve"]

HANDSHAKE_TIMEOUT = 10.0
"""Seconds for a handshake. Hypercorn's own default is 60."""

_OUR_OPTIONS = (
    "ca_certs",
    "cert_reqs",
    "certfile",
    "ciphers",
    "insecure_bind",
    "keyfile",
    "keyfile_password",
    "quic_bind",
    "ssl_enabled",
    "ssl_handshake_timeout",
    "use_reloader",
    "verify_flags",
    "verify_mode",
    "worker_class",
    "workers",
)
_WORKER_CLASSES = ("asyncio", "uvloop", "trio")


class MTLSConfig(hypercorn.Config):
    """A ``hypercorn.Config`` for mutual TLS with a source's identity; :func:`serve` makes and uses one.

    ``options`` are Hypercorn's own (``bind``, ``keep_alive_timeout``, ``loglevel``, …), without those
    that say which certificates to use, or where to listen without TLS.

    Raises:
        CallerError: for an option that this class decides itself, or that Hypercorn does not have.
        InvalidAuthorizerError: ``authorizer`` cannot be one.

    """

    def __init__(
        self,
        source: X509ContextSource,
        authorizer: Authorizer,
        *,
        minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        on_rejected: RejectionHook | None = None,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        **options: Any,
    ) -> None:
        super().__init__()
        if foreign := sorted(set(options) & set(_OUR_OPTIONS)):
            raise CallerError(
                f"{', '.join(foreign)}: not taken here; certificates, keys and trust come from the source, every "
                "listener is mutual TLS, and worker processes are for run()"
            )
        if not handshake_timeout > 0:
            raise CallerError(f"handshake_timeout={handshake_timeout}: give seconds, more than none")
        for name, value in options.items():
            # Its methods, such as create_ssl_context, are no options: one set here would replace ours.
            if name.startswith("_") or not hasattr(hypercorn.Config, name) or _is_method(name):
                raise CallerError(f"{name}: Hypercorn has no such option")
            setattr(self, name, value)
        self.ssl_handshake_timeout = handshake_timeout
        self.on_started: Callable[[], None] | None = None
        self._context = mtls_server_context(
            source, authorizer, minimum_version=minimum_version, alpn=self.alpn_protocols, on_rejected=on_rejected
        )

    @property
    def ssl_enabled(self) -> bool:
        """Always: no listener is without TLS."""
        return True

    def create_ssl_context(self) -> ssl.SSLContext:
        """Return the one context; Hypercorn asks for it when the application has started, before it accepts."""
        if self.on_started is not None:
            self.on_started()
        return self._context


def _is_method(name: str) -> bool:
    return inspect.isroutine(inspect.getattr_static(hypercorn.Config, name))


async def serve(
    app: Any,
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    shutdown_trigger: Callable[[], Awaitable[Any]] | None = None,
    **options: Any,
) -> None:
    """Serve an application over mutual TLS, on asyncio or trio, until ``shutdown_trigger`` returns.

    Without a trigger asyncio serves until SIGINT or SIGTERM, and trio until cancelled. ``options`` are those of
    :class:`MTLSConfig`.

    Raises:
        CallerError, InvalidAuthorizerError: as :class:`MTLSConfig` says.
        OSError: the address cannot be had.

    """
    await _serve(app, MTLSConfig(source, authorizer, **options), None, shutdown_trigger)


async def _serve(
    app: Any,
    config: MTLSConfig,
    sockets: Sequence[socket] | None,
    shutdown_trigger: Callable[[], Awaitable[Any]] | None,
) -> None:
    wrapped = wrap_app(app, config.wsgi_max_body_size, None)
    worker: Any = _on_asyncio if _under_asyncio() else _on_trio()
    ours = None if sockets is None else Sockets(list(sockets), [], [])
    await worker(wrapped, config, sockets=ours, shutdown_trigger=shutdown_trigger)


def _under_asyncio() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


def run(
    app: str,
    authorizer: Authorizer,
    *,
    source: Callable[[], X509Source] = X509Source,
    workers: int = 1,
    worker_class: str = "asyncio",
    host: str | None = "127.0.0.1",
    port: int = 8000,
    uds: str | None = None,
    fd: int | None = None,
    on_started: Callable[[Sequence[str]], None] | None = None,
    **options: Any,
) -> None:
    """Serve ``"module:name"`` over mutual TLS with worker processes on asyncio, uvloop or trio, until told to stop.

    ``source`` makes the source of a process and is called in each: a class or function, or ``functools.partial`` of
    one. With several workers, all that is given must be found by its name in a new process. A worker that ends is
    replaced; SIGHUP replaces all, one by one; SIGINT and SIGTERM end them gracefully. ``options`` are those of
    :class:`MTLSConfig`.

    Raises:
        CallerError, InvalidAuthorizerError: as :class:`MTLSConfig` says, or what is given cannot reach a new process.
        NotReadyError, UnavailableError: there is no identity in time, for one worker or for several.
        ConfigurationError: several workers do not start; what they wrote says why.
        OSError: the address cannot be had.

    """
    if worker_class not in _WORKER_CLASSES or workers < 1:
        raise CallerError(f"worker_class={worker_class!r}, workers={workers}: want one of {_WORKER_CLASSES}, and one")
    if "bind" in options:
        raise CallerError("bind: give run() host and port, uds or fd")
    serving = _Serving(app, require_authorizer(authorizer), source, worker_class, options)
    with listening(host, port, uds=uds, fd=fd) as sockets:
        urls = [where(listener) for listener in sockets]

        def started() -> None:
            if on_started is not None:
                on_started(urls)

        if workers > 1:
            Supervisor(serving, sockets, workers, started).run()
        else:
            serving(sockets, started)


@dataclass(frozen=True, slots=True)
class _Serving:
    """What a process needs to serve: how to get an identity, and never one."""

    app: str
    authorizer: Authorizer
    source: Callable[[], X509Source]
    worker_class: str
    options: Mapping[str, Any]

    def __call__(self, sockets: list[socket], started: Callable[[], None]) -> None:
        """Serve in this process until told to stop, with a source of its own."""
        with told_to_stop(), self.source() as source:
            config = MTLSConfig(source, self.authorizer, **self.options)
            config.on_started = started
            app = load_application(self.app, config.wsgi_max_body_size)
            ours = Sockets(sockets, [], [])
            if self.worker_class == "trio":
                self._run_trio(app, config, ours)
                return
            loop_factory = None
            if self.worker_class == "uvloop":
                import uvloop

                loop_factory = uvloop.new_event_loop
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(_on_asyncio(app, config, sockets=ours))

    def _run_trio(self, app: Any, config: MTLSConfig, sockets: Sockets) -> None:
        import signal

        import trio

        for listener in sockets.secure_sockets:
            listener.listen(config.backlog)
            listener.setblocking(False)

        async def told() -> None:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for _ in signals:
                    return

        async def main() -> None:
            await _on_trio()(app, config, sockets=sockets, shutdown_trigger=told)

        trio.run(main)


class _PeerOfConnection:
    """An application of one connection: its scopes say who is at the other end."""

    def __init__(self, app: Any, connection: TLSConnection | None) -> None:
        self._app = app
        self._connection = connection
        self._extensions: Extensions | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send, *spawners: Any) -> None:
        if self._extensions is None:  # on trio the connection is there before its handshake
            self._extensions = extensions_of(self._connection)
        add_extensions(scope, self._extensions)
        await self._app(scope, receive, send, *spawners)


class _Connection(TCPServer):
    """Hypercorn's connection on asyncio, with its peer."""

    async def run(self) -> None:
        self.app: Any = _PeerOfConnection(self.app, self.writer.get_extra_info("ssl_object"))
        await super().run()


def _with_connections(worker_serve: Any, connection: type) -> Any:
    """Return Hypercorn's worker making connections of another class: the one place where a peer is known.

    Only this copy knows the class, so that whoever else uses Hypercorn in this process has what they had. Should a
    later Hypercorn not look the name up, scopes carry no peer, and asking for it raises.
    """
    names = {**worker_serve.__globals__, "TCPServer": connection}
    ours = types.FunctionType(worker_serve.__code__, names, "worker_serve", worker_serve.__defaults__)
    ours.__kwdefaults__ = worker_serve.__kwdefaults__
    return ours


_on_asyncio = _with_connections(serve_on_asyncio, _Connection)


def _on_trio() -> Any:
    from hypercorn.trio.run import worker_serve as serve_on_trio
    from hypercorn.trio.tcp_server import TCPServer as TrioTCPServer

    class TrioConnection(TrioTCPServer):
        """Hypercorn's connection on trio, with its peer."""

        async def run(self) -> None:
            self.app: Any = _PeerOfConnection(self.app, self.stream)
            await super().run()

    return _with_connections(serve_on_trio, TrioConnection)
