"""The one line of the product's promise: an identity for this process, and SSL contexts that never grow old."""

import ssl
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NoReturn

from cryptography.hazmat.primitives.serialization import Encoding

from authsec_sdk.authz import Authorizer, authorize_member_of, require_authorizer
from authsec_sdk.errors import CallerError
from authsec_sdk.spiffe import X509SVID, SpiffeID, X509Context
from authsec_sdk.tls import SpiffeSSLContext, mtls_client_context, mtls_server_context
from authsec_sdk.workloadapi import Endpoint, SourceStatus, SVIDPicker, X509Source, resolve_endpoint
from authsec_sdk.workloadapi.fork import at_fork

__all__ = ["QuickStartSVID"]

TIMEOUT = 30.0

_FILES = "nothing is written to disk any more; create_ssl_context_for_client() and …_server() need no files"
_GONE = {
    "private_key": "a key as text ends up in logs and does not rotate; x509_svid.private_key is the key object",
    "get_certificate_dict": "use the SSL contexts; certificate has the PEM, x509_svid.private_key the key object",
    "cert_file_path": _FILES,
    "key_file_path": _FILES,
    "ca_file_path": _FILES,
    "cert_dir": _FILES,
    "refresh": "updates arrive by themselves, over a stream",
}


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What `initialize` was called with; None stands for whatever there is."""

    endpoint: Endpoint | None
    authorizer: Authorizer | None
    hint: str | None
    svid_picker: SVIDPicker | None
    expected_agent_uid: int | None

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
    contexts use it. Works under asyncio and trio, in threads once it is initialized, and in forked children.
    A program that wants several identities, or none that is global, uses `X509Source` and `authsec_sdk.tls`.
    """

    def __init__(self, source: X509Source, wishes: _Wishes) -> None:
        self.source = source
        self._wishes = wishes
        self._waiting = 0
        self._ready = False

    @classmethod
    async def initialize(
        cls,
        socket_path: str | None = None,
        *,
        authorizer: Authorizer | None = None,
        hint: str | None = None,
        svid_picker: SVIDPicker | None = None,
        expected_agent_uid: int | None = None,
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
            timeout: seconds to wait for the first identity; None stands for ever.

        Raises:
            InvalidEndpointError: the address is missing or wrong.
            InvalidAuthorizerError: `authorizer` cannot be one.
            NotReadyError: no identity within `timeout`; says why.
            WorkloadAPIError: what listens there is no agent.
            CallerError: it was initialized otherwise before, such as with another socket.
        """
        instance = _obtain(
            _Wishes(
                None if socket_path is None and _current is not None else resolve_endpoint(socket_path),
                None if authorizer is None else require_authorizer(authorizer),
                hint,
                svid_picker,
                expected_agent_uid,
            )
        )
        try:
            await instance.source.ready(timeout)
            instance._ready = True
        finally:
            if _release(instance):
                await instance.source.aclose()
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
        """End the stream and forget the identity; contexts made of it accept no more connections. Again, a no-op."""
        global _current
        with at_fork.lock:
            instance, _current = _current, None
        if instance is not None:
            await instance.source.aclose()

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
    def spiffe_id(self) -> SpiffeID:
        """Who this process is."""
        return self.x509_svid.id

    @property
    def certificate(self) -> str:
        """The newest certificate chain as PEM, leaf first."""
        return "".join(one.public_bytes(Encoding.PEM).decode("ascii") for one in self.x509_svid.certificates)

    @property
    def trust_bundle(self) -> str:
        """The authorities of our own trust domain as PEM. Those of others are in `x509_context.bundles`, each apart."""
        context = self.x509_context
        return context.bundles.require(context.svid.id.trust_domain).to_pem().decode("ascii")

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

    def _authorizer(self, wished: Authorizer | None) -> Authorizer:
        for authorizer in (wished, self._wishes.authorizer):
            if authorizer is not None:
                return authorizer
        return authorize_member_of(self.spiffe_id.trust_domain)

    def __repr__(self) -> str:
        """Show who it is and how it is doing, never a key."""
        return f"<QuickStartSVID {self.source!r}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: an identity belongs to its process."""
        raise TypeError("a QuickStartSVID is not pickled; initialize one in each process")

    def __getattr__(self, name: str) -> Any:
        """Tell those who come from older versions what became of an attribute."""
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
