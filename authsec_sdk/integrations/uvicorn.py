"""uvicorn serving an ASGI application over mutual TLS (extra ``uvicorn``).

``await serve(app, source, authorizer, port=8443)`` runs a server whose certificate follows the source, which refuses
callers in the handshake, and whose applications read the caller from the scope
(:func:`authsec_sdk.integrations.asgi.peer_spiffe_id`). :class:`MTLSConfig` and :class:`MTLSServer` are the same in two
steps, for those who need the server in their hands. It works with the h11 and httptools protocols, on asyncio and
uvloop, over TCP and Unix sockets, for HTTP and websockets.

:func:`run` serves with several worker processes, or reloads on changes; each process gets a source of its own, so
that no key crosses from one to another.
"""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
import uvicorn
import uvicorn.supervisors

from authsec_sdk.authz import Authorizer, RequestAuthorizer, all_of, require_authorizer
from authsec_sdk.errors import CallerError
from authsec_sdk.integrations._asgi_peer import WithPeer
from authsec_sdk.integrations._workers import Supervisor, listening, told_to_stop, where
from authsec_sdk.integrations.asgi import ASGIApp, PolicyMiddleware
from authsec_sdk.policyfile import PolicyFile
from authsec_sdk.spiffe import X509ContextSource
from authsec_sdk.tls import RejectionHook, mtls_server_context
from authsec_sdk.workloadapi import X509Source

__all__ = ["HANDSHAKE_TIMEOUT", "MTLSConfig", "MTLSServer", "carry_peers", "run", "serve"]

HANDSHAKE_TIMEOUT = 10.0
"""Seconds from accept to the end of the handshake. asyncio's own limit is 60, and uvicorn has no option for it."""

_uvicorn_logger = logging.getLogger("uvicorn.error")  # where its users look for the line that says where it listens

_OUR_OPTIONS = (
    "http2",
    "reload",
    "ssl_ca_certs",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_ciphers",
    "ssl_context_factory",
    "ssl_keyfile",
    "ssl_keyfile_password",
    "ssl_version",
    "workers",
)


_LOG_OPTIONS = ("access_log", "log_config", "log_level", "use_colors")
_RELOAD_OPTIONS = ("reload_delay", "reload_dirs", "reload_excludes", "reload_includes")


class MTLSConfig(uvicorn.Config):
    """A ``uvicorn.Config`` for mutual TLS with a source's identity; give it to :class:`MTLSServer`.

    ``options`` are uvicorn's own (``host``, ``port``, ``uds``, ``http``, ``log_level``, …) without those that say which
    certificates to use. ``proxy_headers`` is off unless asked for: a header must not say who the caller is.
    ``policy`` is asked for each request, as :class:`authsec_sdk.integrations.asgi.PolicyMiddleware` does.
    An ordinary ``uvicorn.Server`` takes it too, but does not know ``handshake_timeout``.

    Raises:
        CallerError: for an option that this class decides itself, or a ``handshake_timeout`` that is not positive.
        InvalidAuthorizerError: ``authorizer`` cannot be one.

    """

    def __init__(
        self,
        app: ASGIApp | str,
        source: X509ContextSource,
        authorizer: Authorizer,
        *,
        minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        on_rejected: RejectionHook | None = None,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        policy: RequestAuthorizer | None = None,
        **options: Any,
    ) -> None:
        self._policy = policy
        if foreign := sorted(set(options) & set(_OUR_OPTIONS)):
            raise CallerError(
                f"{', '.join(foreign)}: not taken here; certificates, keys and trust come from the source; "
                "workers and reload are for run()"
            )
        if not handshake_timeout > 0:
            raise CallerError(f"handshake_timeout={handshake_timeout}: give seconds, more than none")
        self.handshake_timeout = handshake_timeout
        context = mtls_server_context(
            source, authorizer, minimum_version=minimum_version, alpn=("http/1.1",), on_rejected=on_rejected
        )
        options.setdefault("proxy_headers", False)
        super().__init__(app, ssl_context_factory=lambda _config, _default: context, **options)

    def load(self) -> None:
        """Load as uvicorn does, then make each connection carry its peer into the scope."""
        super().load()
        if self._policy is not None:
            self.loaded_app: Any = PolicyMiddleware(self.loaded_app, self._policy)
        carry_peers(self)


def carry_peers(config: uvicorn.Config) -> None:
    """Make each connection of a loaded configuration carry its verified peer into the scope."""
    config.http_protocol_class = _identified(config.http_protocol_class)
    if config.ws_protocol_class is not None:
        config.ws_protocol_class = _identified(config.ws_protocol_class)


class MTLSServer(uvicorn.Server):
    """A ``uvicorn.Server`` that gives each handshake ``MTLSConfig.handshake_timeout`` and no longer.

    Without that, whoever connects and stays silent holds a connection for a minute. All else is uvicorn's, but that an
    address which cannot be had raises OSError instead of ending the process.
    """

    config: MTLSConfig

    def __init__(self, config: MTLSConfig) -> None:
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then listen."""
        await super().startup(sockets=[])  # no sockets: uvicorn starts the application, and cannot listen as we must
        if not self.started:
            return
        self.started = False
        try:
            self.servers = await self._listen(sockets)
        except BaseException:
            await self.lifespan.shutdown()
            raise
        self.started = True
        for listener in (listener for server in self.servers for listener in server.sockets):
            _uvicorn_logger.info("Uvicorn running on %s, mutual TLS (Press CTRL+C to quit)", where(listener))

    async def _listen(self, sockets: list[socket.socket] | None) -> list[asyncio.Server]:
        config, loop = self.config, asyncio.get_running_loop()
        options: dict[str, Any] = {
            "ssl": config.ssl,
            "ssl_handshake_timeout": config.handshake_timeout,
            "backlog": config.backlog,
        }
        if sockets is None and config.fd is not None:
            sockets = [socket.socket(fileno=os.dup(config.fd))]
        if sockets is not None:
            return [await loop.create_server(self._protocol, sock=listener, **options) for listener in sockets]
        if config.uds is not None:
            path = anyio.Path(config.uds)
            mode = (await path.stat()).st_mode if await path.exists() else 0o666  # the handshake decides who gets in
            server = await loop.create_unix_server(self._protocol, config.uds, **options)
            await path.chmod(mode)
            return [server]
        return [await loop.create_server(self._protocol, config.host, config.port, **options)]

    def _protocol(self) -> asyncio.Protocol:
        protocol: Any = self.config.http_protocol_class
        made: asyncio.Protocol = protocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made


async def serve(app: ASGIApp | str, source: X509ContextSource, authorizer: Authorizer, **options: Any) -> None:
    """Serve an application over mutual TLS until the process is told to stop.

    ``options`` are those of :class:`MTLSConfig`. uvicorn handles SIGINT and SIGTERM and shuts down gracefully.

    Raises:
        CallerError, InvalidAuthorizerError: as :class:`MTLSConfig` says.
        OSError: the address cannot be had.

    """
    await MTLSServer(MTLSConfig(app, source, authorizer, **options)).serve()


def run(
    app: ASGIApp | str,
    authorizer: Authorizer | None = None,
    *,
    policy: Callable[[], PolicyFile] | None = None,
    source: Callable[[], X509Source] = X509Source,
    workers: int = 1,
    reload: bool = False,
    host: str | None = "127.0.0.1",
    port: int = 8000,
    uds: str | None = None,
    fd: int | None = None,
    on_started: Callable[[Sequence[str]], None] | None = None,
    **options: Any,
) -> None:
    """Serve an application over mutual TLS with several processes, or reloading, until told to stop.

    ``source`` makes the source of a process, and is called in each: a class or function, or ``functools.partial`` of
    one. So does ``policy``: ``functools.partial(PolicyFile, "policy.yaml")`` decides who connects, and on each request;
    where an ``authorizer`` is given too, both must accept. With several workers, or ``reload``, ``app`` is
    ``"module:name"``, and what is given must be found by its name in a new process: authorizers of
    :mod:`authsec_sdk.authz` are, a lambda is not. A worker that ends is replaced; SIGHUP replaces all, one by one;
    SIGINT and SIGTERM end them gracefully. ``on_started`` hears the URLs once all accept. ``options`` are those of
    :class:`MTLSConfig`, and ``reload_dirs``, ``reload_includes``, ``reload_excludes`` and ``reload_delay``.

    Raises:
        CallerError, InvalidAuthorizerError: as :class:`MTLSConfig` says, or what is given cannot reach a new process.
        NotReadyError, UnavailableError: there is no identity in time, for one worker or for several.
        ConfigurationError: several workers do not start; what they wrote says why.
        OSError: the address cannot be had.

    """
    if authorizer is not None or policy is None:
        authorizer = require_authorizer(authorizer)
    reloading = {name: options.pop(name) for name in _RELOAD_OPTIONS if name in options}
    if workers < 1 or (reload and workers > 1):
        raise CallerError(f"workers={workers}, reload={reload}: at least one worker, and exactly one to reload")
    if (reload or workers > 1) and not isinstance(app, str):
        raise CallerError("give the application as 'module:name': other processes cannot get this object")
    serving = _Serving(app, authorizer, policy, source, options)
    with listening(host, port, uds=uds, fd=fd) as sockets:
        urls = [where(listener) for listener in sockets]

        def started() -> None:
            if on_started is not None:
                on_started(urls)

        if not reload and workers == 1:
            serving(sockets, started)
            return
        supervisor = Supervisor(serving, sockets, workers, started)
        logging_options = {name: options[name] for name in _LOG_OPTIONS if name in options}
        config = uvicorn.Config(app, reload=reload, **logging_options, **reloading)  # configures logging here too
        if reload:
            started()
            uvicorn.supervisors.ChangeReload(config, target=serving, sockets=sockets).run()
        else:
            supervisor.run()


def _identified(protocol: type[asyncio.Protocol]) -> type[asyncio.Protocol]:
    """Return a protocol whose application, one per connection, knows the peer of that connection."""

    class Identified(protocol):  # type: ignore[valid-type,misc] # the class is chosen when the configuration loads
        app: ASGIApp

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self.app = WithPeer(self.app, transport.get_extra_info("ssl_object"))

    Identified.__name__ = Identified.__qualname__ = f"Identified{protocol.__name__}"
    return Identified


@dataclass(frozen=True, slots=True)
class _Serving:
    """What a process needs to serve: how to get an identity, and never one."""

    app: ASGIApp | str
    authorizer: Authorizer | None
    policy: Callable[[], PolicyFile] | None
    source: Callable[[], X509Source]
    options: Mapping[str, Any]

    def __call__(self, sockets: list[socket.socket] | None, started: Callable[[], None] = lambda: None) -> None:
        """Serve in this process until told to stop, with a source of its own."""
        with told_to_stop(), contextlib.ExitStack() as stack:
            policy = None if self.policy is None else stack.enter_context(self.policy())
            accepting = [] if self.authorizer is None else [self.authorizer]
            accepting += [] if policy is None else [policy.authorizer]
            source = stack.enter_context(self.source())
            config = MTLSConfig(self.app, source, all_of(*accepting), policy=policy, **self.options)
            _TellingServer(config, started).run(sockets)


class _TellingServer(MTLSServer):
    """Tells when it accepts connections."""

    def __init__(self, config: MTLSConfig, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._tell_started()
