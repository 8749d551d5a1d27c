"""Serve the bundle document of one's own trust domain: an ASGI application for both profiles."""

import hashlib
import json
import logging
import os
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, replace
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final, Protocol, TypeAlias

import anyio.to_thread

from authsec_sdk.errors import CallerError, SpiffeError
from authsec_sdk.federation.sequence import Numbering
from authsec_sdk.spiffe import BundleSet, JWTBundle, TrustBundle, TrustDomain, X509ContextSource, format_bundle_document

__all__ = ["DEFAULT_REFRESH_HINT", "BundleServer", "JWTBundleSource", "own_bundle"]

DEFAULT_REFRESH_HINT: Final = timedelta(minutes=5)
_RETRY_SECONDS: Final = 5

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_logger = logging.getLogger(__name__)


class JWTBundleSource(Protocol):
    """Where JWT authorities come from: a `JWTSource`."""

    @property
    def jwt_bundles(self) -> BundleSet[JWTBundle]:
        """The newest bundles. Never blocks; NotReadyError where there are none yet."""
        ...


def own_bundle(
    trust_domain: TrustDomain | str, source: X509ContextSource, jwt_source: JWTBundleSource | None = None
) -> Callable[[], TrustBundle]:
    """Return what reads the newest bundle of a trust domain from sources, for `BundleServer`.

    Without `jwt_source` the document holds no JWT authorities, and nobody elsewhere accepts the domain's JWT-SVIDs.
    """
    domain = trust_domain if isinstance(trust_domain, TrustDomain) else TrustDomain.parse(trust_domain)

    def read() -> TrustBundle:
        x509 = source.x509_context.bundles.require(domain)
        jwt = None if jwt_source is None else jwt_source.jwt_bundles.require(domain)
        return TrustBundle(domain, x509.authorities, {} if jwt is None else jwt.authorities)

    return read


@dataclass(frozen=True, slots=True)
class _Document:
    """A bundle as it is served, and the bundle it was made of."""

    bundle: TrustBundle
    body: bytes
    etag: bytes


class BundleServer:
    """An ASGI application that answers GET and HEAD on one path with the newest bundle, and everything else shortly::

        app = BundleServer(own_bundle("example.org", source, jwt_source))

    `read` is called for each request, in any thread, and must not block. What holds: the document is what it returns
    then, with public keys alone; `spiffe_sequence` grows whenever other contents are served; `spiffe_refresh_hint` is
    the bundle's own or `refresh_hint`. Whoever can connect may read: bundle endpoints ask for no credentials. Works in
    every ASGI server, at the root or mounted, on asyncio and trio; TLS is the server's: `tls_server_context` for
    `https_spiffe`, a certificate of the web's authorities for `https_web`.

    Where the bundle has a sequence number of its own, that is served. Otherwise numbers are made here: seconds since
    1970 at each change, never lower than before. `state_file` keeps the last one over restarts, which matters where
    the clock may be set back. Several servers behind one address number each on their own: they need a source that
    has numbers, or clients will at times find one behind the other, and keep what they have.

    Args:
        read: returns the newest bundle, such as what `own_bundle` gives.
        path: where the document is; relative to where the application is mounted.
        refresh_hint: how often others should look, where the bundle does not say.
        state_file: where the last sequence number is kept.

    Raises:
        CallerError: `path` does not begin with a slash, or `refresh_hint` is under a second.
        ConfigurationError: `state_file` cannot be read, or holds something else.
    """

    def __init__(
        self,
        read: Callable[[], TrustBundle],
        *,
        path: str = "/",
        refresh_hint: timedelta = DEFAULT_REFRESH_HINT,
        state_file: str | os.PathLike[str] | None = None,
    ) -> None:
        if not path.startswith("/"):
            raise CallerError(f"path={path!r} of a bundle must begin with a slash")
        if refresh_hint < timedelta(seconds=1):
            raise CallerError("refresh_hint must be a second or more")
        self._read = read
        self._path = path
        self._refresh_hint = refresh_hint
        self._numbering = Numbering(state_file)
        self._document: _Document | None = None
        self._renewing = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, send)
        else:
            await receive()  # websocket.connect comes before any answer
            await send({"type": "websocket.close", "code": 1000})

    async def _answer(self, scope: Scope, send: Send) -> None:
        method = scope["method"]
        if _path(scope) != self._path:
            await _refuse(send, method, HTTPStatus.NOT_FOUND)
        elif method not in ("GET", "HEAD"):
            await _refuse(send, method, HTTPStatus.METHOD_NOT_ALLOWED, (b"allow", b"GET, HEAD"))
        else:
            try:
                document = await self._newest()
            except SpiffeError as error:
                _logger.warning("no bundle to serve: %s", error)
                retry = (b"retry-after", str(_RETRY_SECONDS).encode())
                await _refuse(send, method, HTTPStatus.SERVICE_UNAVAILABLE, retry)
            else:
                await _serve(send, method, document, _header(scope, b"if-none-match"))

    async def _newest(self) -> _Document:
        bundle = self._read()
        document = self._document
        if document is not None and document.bundle == bundle:
            return document
        return await anyio.to_thread.run_sync(self._renew)

    def _renew(self) -> _Document:
        """Make a document of the newest bundle, in a thread, for that may write a file; one after the other."""
        with self._renewing:
            bundle = self._read()  # while we waited another request may have made a document of it, or of a newer one
            document = self._document
            if document is None or document.bundle != bundle:
                self._document = document = self._render(bundle)
            return document

    def _render(self, bundle: TrustBundle) -> _Document:
        served = bundle
        if served.refresh_hint is None:
            served = replace(served, refresh_hint=self._refresh_hint)
        if served.sequence_number is None:
            served = replace(served, sequence_number=self._numbering.number(served))
        body = format_bundle_document(served)
        _logger.info("serving a bundle trust_domain=%s sequence=%s", served.trust_domain, served.sequence_number)
        return _Document(bundle, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'.encode())


async def _live(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


def _path(scope: Scope) -> str:
    """Return the path below where the application is mounted, as newer and older versions of ASGI say it."""
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return (path[len(root) :] or "/") if root and (path == root or path.startswith(root + "/")) else path


def _header(scope: Scope, name: bytes) -> bytes | None:
    values = [value for key, value in scope["headers"] if key == name]
    return b",".join(values) if values else None


async def _serve(send: Send, method: str, document: _Document, if_none_match: bytes | None) -> None:
    headers = [
        (b"etag", document.etag),
        # Kept anywhere, asked about each time: who publishes a new authority must not wait for caches (5.2.1.3).
        (b"cache-control", b"no-cache"),
    ]
    if if_none_match is not None and _matches(if_none_match, document.etag):
        await _send(send, "HEAD", HTTPStatus.NOT_MODIFIED, headers, b"")
        return
    headers += [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(document.body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    await _send(send, method, HTTPStatus.OK, headers, document.body)


def _matches(if_none_match: bytes, etag: bytes) -> bool:
    tags = [tag.strip().removeprefix(b"W/") for tag in if_none_match.split(b",")]
    return b"*" in tags or etag in tags


async def _refuse(send: Send, method: str, status: HTTPStatus, *headers: tuple[bytes, bytes]) -> None:
    problem = json.dumps({"type": "about:blank", "title": status.phrase, "status": status.value}).encode()
    own = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(problem)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await _send(send, method, status, [*own, *headers], problem)


async def _send(send: Send, method: str, status: HTTPStatus, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
