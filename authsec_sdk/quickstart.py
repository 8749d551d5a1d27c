"""The one line of the product's promise: an identity for this process, and SSL contexts that never grow old."""

import logging
import ssl
import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import anyio.to_thread

from authsec_sdk.authz import Authorizer, authorize_member_of, require_authorizer
from authsec_sdk.compat.claims import validated
from authsec_sdk.compat.key_files import KeyFiles
from authsec_sdk.compat.pem import bundle_pem, certificate_pem, key_pem
from authsec_sdk.errors import CallerError
from authsec_sdk.spiffe import JWTSVID, X509SVID, SpiffeID, X509Context
from authsec_sdk.tls import SpiffeSSLContext, mtls_client_context, mtls_server_context
from authsec_sdk.workloadapi import Endpoint, JWTSource, SourceStatus, SVIDPicker, X509Source, resolve_endpoint
from authsec_sdk.workloadapi.fork import at_fork

__all__ = ["QuickStartSVID"]

TIMEOUT = 30.0

_FILES = {"cert_file_path": "certificate", "key_file_path": "key", "ca_file_path": "authorities"}
_GONE = {"refresh": "updates arrive by themselves, over a stream"}

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What `initialize` was called with; None stands for whatever there is."""

    endpoint: Endpoint | None
    authorizer: Authorizer | None
    hint: str | None
    svid_picker: SVIDPicker | None
    expected_agent_uid: int | None
    cert_dir: Path | None

    def conflicts(self, other: "_Wishes") -> str | None:
        """Name what `other` wishes otherwise, if it wishes it at all."""
        for name in self.__slots__:
            wished = getattr(other, name)
            if wished is not None and wished != getattr(self, name):
                return f"{name}={wished}" if name != "endpoint" else f"socket_path={wished} (it is {self.endpoint})"
        return None


class QuickStartSVID:
    """The identity of this process: one for all of it, made by `initialize` and ended by `shutdown`.

    ::

        svid = await QuickStartSVID.initialize()
        httpx.AsyncClient(verify=svid.create_ssl_context_for_client())

    All attributes are of the newest SVID each time they are read. The private key stays in memory, and only the SSL
    contexts use it, unless it is asked for: `cert_dir` puts the identity into files there, and whoever reads
    `key_file_path`, `cert_file_path` or `ca_file_path` without it gets files in memory where the system has them; both
    follow the identity until `shutdown` (`compat.key_files` says what holds of them). `private_key` and
    `get_certificate_dict()` return the key as PEM text.

    Works under asyncio and trio, in threads once it is initialized, and in forked children. A program that wants
    several identities, or none that is global, uses `X509Source` and `authsec_sdk.tls`.
    """

    def __init__(self, source: X509Source, wishes: _Wishes) -> None:
        self.source = source
        self._wishes = wishes
        self._waiting = 0
        self._ready = False
        self._making = threading.Lock()
        self._files: KeyFiles | None = None
        self._tokens: JWTSource | None = None

    @classmethod
    async def initialize(
        cls,
        socket_path: str | None = None,
        *,
        authorizer: Authorizer | None = None,
        hint: str | None = None,
        svid_picker: SVIDPicker | None = None,
        expected_agent_uid: int | None = None,
        cert_dir: str | Path | None = None,
        timeout: float | None = TIMEOUT,
    ) -> "QuickStartSVID":
        """Get the identity of this process from its agent, waiting until there is one, and keep it up to date.

        Called again it returns the same object; called at once by many, all wait for one stream. When it fails nothing
        stays behind, and it can be called again.

        Args:
            socket_path: the agent's address, such as `unix:///run/spire/sockets/agent.sock`, or the path alone; None
                stands for `SPIFFE_ENDPOINT_SOCKET`. There is no other default.
            authorizer: whom the SSL contexts accept as peers. By default members of our own trust domain, every one of
                them: say `authorize_id(...)` where one service is meant.
            hint: which SVID to use if there are several; `svid_picker` picks by code.
            expected_agent_uid: talk to nobody but this user on the socket.
            cert_dir: put the identity into files of this folder too, for programs that read nothing else.
            timeout: seconds to wait for the first identity; None stands for ever.

        Raises:
            InvalidEndpointError: the address is missing or wrong.
            InvalidAuthorizerError: `authorizer` cannot be one.
            NotReadyError: no identity within `timeout`; says why.
            WorkloadAPIError: what listens there is no agent.
            ConfigurationError: others may write to `cert_dir`, or we may not.
            CallerError: it was initialized otherwise before, such as with another socket.
        """
        instance = _obtain(
            _Wishes(
                None if socket_path is None and _current is not None else resolve_endpoint(socket_path),
                None if authorizer is None else require_authorizer(authorizer),
                hint,
                svid_picker,
                expected_agent_uid,
                None if cert_dir is None else Path(cert_dir),
            )
        )
        try:
            await instance.source.ready(timeout)
            if instance._wishes.cert_dir is not None:
                await anyio.to_thread.run_sync(instance._files_asked_for)
            instance._ready = True
        finally:
            if _release(instance):
                await instance._end()
        return instance

    @classmethod
    async def get(cls) -> "QuickStartSVID":
        """Return what `initialize` returned.

        Raises:
            CallerError: it was not called, or has not succeeded yet.
        """
        if _current is None or not _current._ready:
            raise CallerError("there is no identity yet: await QuickStartSVID.initialize() first")
        return _current

    @classmethod
    async def shutdown(cls) -> None:
        """End the streams, remove the files, forget the identity: its contexts accept no more connections.

        Again, a no-op.
        """
        global _current
        with at_fork.lock:
            instance, _current = _current, None
        if instance is not None:
            await instance._end()

    # --- what it is ------------------------------------------------------------------------------------------------

    @property
    def x509_context(self) -> X509Context:
        """The newest SVIDs and bundles, which belong together. Raises SourceClosedError after `shutdown`."""
        return self.source.x509_context

    @property
    def x509_svid(self) -> X509SVID:
        """The newest SVID: chain, key object, hint."""
        return self.x509_context.svid

    @property
    def spiffe_id(self) -> str:
        """Who this process is, as text; `x509_svid.id` is the `SpiffeID`."""
        return str(self.x509_svid.id)

    @property
    def certificate(self) -> str:
        """The newest certificate chain as PEM, leaf first."""
        return certificate_pem(self.x509_svid)

    @property
    def trust_bundle(self) -> str:
        """The authorities of our own trust domain as PEM. Those of others are in `x509_context.bundles`, each apart."""
        return bundle_pem(self.x509_context)

    def get_certificate_dict(self) -> dict[str, str]:
        """Return the newest chain and the private key as PEM text, by the names `cert` and `key`.

        Whoever calls this has the key: keep it out of logs. It does not rotate; the SSL contexts do.
        """
        svid = self.x509_svid
        return {"cert": certificate_pem(svid), "key": key_pem(svid)}

    @property
    def expires_at(self) -> datetime:
        """When the newest SVID ends, unless it is renewed before."""
        return self.x509_svid.not_after

    @property
    def status(self) -> SourceStatus:
        """How the stream is doing, for health endpoints."""
        return self.source.status

    # --- what it is for --------------------------------------------------------------------------------------------

    def create_ssl_context_for_client(
        self,
        *,
        authorizer: Authorizer | None = None,
        minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        alpn: Iterable[str] = (),
    ) -> SpiffeSSLContext:
        """Return a context for clients: presents the newest SVID, and accepts servers the authorizer accepts.

        Without `authorizer` the one given to `initialize` decides, and without that any member of the trust domain
        which is ours now. Host names are not looked at. No root of the system is trusted.
        """
        return mtls_client_context(
            self.source, self._authorizer(authorizer), minimum_version=minimum_version, alpn=alpn
        )

    def create_ssl_context_for_server(
        self,
        *,
        authorizer: Authorizer | None = None,
        minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        alpn: Iterable[str] = (),
    ) -> SpiffeSSLContext:
        """Return a context for servers: demands a client's SVID, and accepts clients as the client's context does."""
        return mtls_server_context(
            self.source, self._authorizer(authorizer), minimum_version=minimum_version, alpn=alpn
        )

    async def fetch_jwt_svid(
        self, audience: Collection[str], spiffe_id: str | SpiffeID | None = None, *, timeout: float | None = TIMEOUT
    ) -> str:
        """Return a token of ours for all names of `audience`, such as `["payments"]`; at once where one is cached.

        Raises:
            InvalidAudienceError: the audience is a single `str`, or empty.
            NoIdentityError: there is no such identity for this process.
            RetryableError: the agent is away, or has not answered within `timeout` seconds.
        """
        return (await self._jwt_source().fetch_svid(audience, subject=spiffe_id, timeout=timeout)).token

    async def validate_jwt_svid(
        self, token: str, audience: str, *, timeout: float | None = TIMEOUT
    ) -> dict[str, Any] | None:
        """Return the `spiffe_id` and the `claims` of a token that is for `audience`, or None where it is invalid.

        Checked here, by the newest keys of the agent (`JWTSVID.parse_and_validate` says what); the log says what is
        wrong with one.

        Raises:
            InvalidAudienceError: the audience is no name.
            NotReadyError: the agent has not sent its keys within `timeout` seconds: nobody knows.
        """
        source = self._jwt_source()

        async def validate() -> JWTSVID:
            await source.ready(timeout)
            return source.validate(token, [audience])

        return await validated(validate())

    def _jwt_source(self) -> JWTSource:
        with self._making:
            if self._tokens is None:
                self.x509_context  # noqa: B018 - raises after `shutdown`
                self._tokens = JWTSource(
                    str(self.source.endpoint),
                    hint=self._wishes.hint,
                    expected_agent_uid=self._wishes.expected_agent_uid,
                )
            return self._tokens

    def _files_asked_for(self) -> KeyFiles:
        """Return the files of the identity, made now if this is the first time that somebody wants them."""
        with self._making:
            if self._files is None:
                files = KeyFiles(self._wishes.cert_dir)
                try:
                    files.follow(self.source)
                except BaseException:
                    files.remove()
                    raise
                self._files = files
                if self._wishes.cert_dir is None:
                    _logger.warning(
                        "the private key is in a file because the path of one was asked for; whoever reads it once "
                        "does not follow rotations, the SSL contexts do path=%s",
                        files.key,
                    )
            return self._files

    async def _end(self) -> None:
        await self.source.aclose()
        with self._making:
            files, self._files = self._files, None
            tokens = self._tokens
        if tokens is not None:
            await tokens.aclose()
        if files is not None:
            files.remove()

    def _authorizer(self, wished: Authorizer | None) -> Authorizer:
        for authorizer in (wished, self._wishes.authorizer):
            if authorizer is not None:
                return authorizer
        return authorize_member_of(self.x509_svid.id.trust_domain)

    def __repr__(self) -> str:
        """Show who it is and how it is doing, never a key."""
        return f"<QuickStartSVID {self.source!r}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: an identity belongs to its process."""
        raise TypeError("a QuickStartSVID is not pickled; initialize one in each process")

    def __getattr__(self, name: str) -> Any:
        """Give those who come from older versions what they ask for by name.

        Here and not in properties, so that neither `dir` nor a debugger's view of the object writes a key.
        """
        if name in _FILES:
            return getattr(self._files_asked_for(), _FILES[name])
        if name == "private_key":
            return key_pem(self.x509_svid)
        if name in _GONE:
            raise AttributeError(f"QuickStartSVID.{name} is gone: {_GONE[name]}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


_current: QuickStartSVID | None = None


def _obtain(wishes: _Wishes) -> QuickStartSVID:
    """Return the process's instance, made if there is none, and count who waits for it."""
    global _current
    with at_fork.lock:
        instance = _current
        if instance is None:
            source = X509Source(
                None if wishes.endpoint is None else str(wishes.endpoint),
                hint=wishes.hint,
                svid_picker=wishes.svid_picker,
                expected_agent_uid=wishes.expected_agent_uid,
            )
            instance = QuickStartSVID(source, replace(wishes, endpoint=source.endpoint))
        elif (conflict := instance._wishes.conflicts(wishes)) is not None:
            raise CallerError(
                f"QuickStartSVID is already initialized, and not with {conflict}: a process has one; "
                "await QuickStartSVID.shutdown() first, or use X509Source for a second identity"
            )
        _current = instance
        instance._waiting += 1
        return instance


def _release(instance: QuickStartSVID) -> bool:
    """Stop waiting, and say whether the instance is to be closed: nobody waits for it, and it never became ready."""
    global _current
    with at_fork.lock:
        instance._waiting -= 1
        if instance._waiting or instance._ready:
            return False
        if _current is instance:
            _current = None
        return True
