"""grpclib over mutual TLS, client and server (no extra needed), on asyncio and uvloop.

``mtls_channel`` gives an ordinary ``grpclib.client.Channel`` whose connections present the newest X509-SVID and are
refused, before a byte of a call is sent, unless the server's SPIFFE ID satisfies the authorizer. :class:`MTLSServer` is
a ``grpclib.server.Server`` that refuses callers in the handshake, and authorizes by method. :func:`peer_spiffe_id`
tells either side who the other is. A connection that is open keeps the identities it was made with.
"""

import logging
import ssl
from collections.abc import Collection, Mapping
from contextvars import ContextVar
from typing import Any

import grpclib.client
import grpclib.server
from grpclib.const import Status
from grpclib.events import RecvMessage, RecvRequest, SendMessage, listen
from grpclib.exceptions import GRPCError

from authsec_sdk.authz import Authorizer, RequestAuthorizer
from authsec_sdk.errors import CallerError, NoIdentityError, PeerNotAuthorizedError, SpiffeError
from authsec_sdk.integrations._grpc_methods import MethodPolicy
from authsec_sdk.spiffe import SpiffeID, X509ContextSource
from authsec_sdk.tls import RejectionHook, mtls_client_context, mtls_server_context
from authsec_sdk.tls import peer_spiffe_id as _peer_of

__all__ = ["MTLSServer", "mtls_channel", "peer_spiffe_id"]

logger = logging.getLogger(__name__)

_call: ContextVar[list[Any]] = ContextVar("authsec_grpclib_call")  # peer, method, generation of the policy that judged


def mtls_channel(
    host: str,
    port: int,
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    on_rejected: RejectionHook | None = None,
    **options: Any,
) -> grpclib.client.Channel:
    """Return a channel to one server; a call raises ``PeerVerificationError`` when the server is refused.

    ``options`` are those of ``grpclib.client.Channel`` without ``ssl`` and ``path``.

    Raises:
        CallerError: for an option that would go round the policy.
        InvalidAuthorizerError: ``authorizer`` cannot be one.

    """
    _refuse(options, {"ssl", "path"})
    context = mtls_client_context(
        source, authorizer, minimum_version=minimum_version, alpn=("h2",), on_rejected=on_rejected
    )
    return grpclib.client.Channel(host, port, ssl=context, **options)


class MTLSServer(grpclib.server.Server):
    """A ``grpclib.server.Server`` that listens with mutual TLS only.

    ``authorizer`` refuses in the handshake; ``methods`` (``/package.Service/Method``, ``/package.Service/*``, ``/*``)
    says more for some methods: every pattern that matches must accept, and one must match. ``policy`` (a ``Policy`` or
    ``PolicyFile``) must accept each call too; what it accepts no longer ends when the next message passes. ``options``
    are grpclib's.

    Raises:
        CallerError, InvalidAuthorizerError: the policy is none.

    """

    def __init__(
        self,
        handlers: Collection[Any],
        source: X509ContextSource,
        authorizer: Authorizer,
        *,
        methods: Mapping[str, Authorizer] | None = None,
        policy: RequestAuthorizer | None = None,
        minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        on_rejected: RejectionHook | None = None,
        **options: Any,
    ) -> None:
        super().__init__(handlers, **options)
        self._policy = MethodPolicy(authorizer, methods, policy)
        self._context = mtls_server_context(
            source, self._policy.authorizer, minimum_version=minimum_version, alpn=("h2",), on_rejected=on_rejected
        )
        listen(self, RecvRequest, self._decide)
        if policy is not None:
            listen(self, RecvMessage, self._judge_again)
            listen(self, SendMessage, self._judge_again)

    async def start(self, host: str | None = None, port: int | None = None, **options: Any) -> None:
        """Listen on ``host`` and ``port``, or on ``sock``; other options are those of grpclib without ``ssl``.

        Raises:
            CallerError: for an option that would go round the policy.

        """
        _refuse(options, {"ssl", "path"})
        await super().start(host, port, ssl=self._context, **options)

    async def _decide(self, event: RecvRequest) -> None:
        generation = self._policy.generation  # before it is asked: a change meanwhile is then seen
        try:
            peer = peer_spiffe_id(event)
        except NoIdentityError as refusal:
            raise _refused(refusal, event.method_name) from None
        self._authorize(peer, event.method_name)
        _call.set([peer, event.method_name, generation])

    async def _judge_again(self, _event: RecvMessage | SendMessage) -> None:
        call = _call.get()
        if (newest := self._policy.generation) != call[2]:
            self._authorize(call[0], call[1])
            call[2] = newest

    def _authorize(self, peer: SpiffeID, method: str) -> None:
        try:
            self._policy.authorize(peer, method)
        except PeerNotAuthorizedError as refusal:
            raise _refused(refusal, method) from None


def _refused(refusal: SpiffeError, method: str) -> GRPCError:
    logger.warning("Call refused: %s method=%s", refusal, method)
    return GRPCError(Status.PERMISSION_DENIED, "the caller is not authorized")


def peer_spiffe_id(call: Any) -> SpiffeID:
    """Return the other side's SPIFFE ID, as the handshake verified it, from a handler's or a client's stream.

    Raises:
        NoIdentityError: the connection is no mutual TLS of ours.

    """
    peer = _peer_of(call.peer._transport)
    if peer is None:
        raise NoIdentityError("this call did not come over mutual TLS of ours: nothing proves who the other side is")
    return peer


def _refuse(options: Mapping[str, Any], foreign: set[str]) -> None:
    if found := sorted(foreign & set(options)):
        raise CallerError(f"{', '.join(found)}: not taken here, because it would go round the SPIFFE policy")
