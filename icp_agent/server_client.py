"""The SPIRE server as the agent sees it: calls over mutual TLS with a deadline, answers as values, errors by kind."""

import logging
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

from grpclib.client import Stream

from authsec_sdk.authz import authorize_id
from authsec_sdk.errors import SpiffeError
from authsec_sdk.proto.spire import (
    agent_grpc,
    agent_pb2,
    bundle_grpc,
    bundle_pb2,
    entry_grpc,
    entry_pb2,
    svid_grpc,
    svid_pb2,
    types_pb2,
)
from authsec_sdk.rpc import Channel, Status
from authsec_sdk.spiffe import BundleSet, TrustBundle, TrustDomain, X509Bundle, X509Context, X509ContextHolder
from authsec_sdk.spiffe.source import X509ContextSource
from authsec_sdk.spire.entries import AuthorizedEntry, EntryRevision, InvalidEntryError
from authsec_sdk.spire.reserved_ids import server_id
from authsec_sdk.spire.svids import IssuedToken, IssuedX509SVID
from authsec_sdk.spire.tainted import PublishedBundle
from authsec_sdk.spire.wire import (
    AUTHORIZED_ENTRY_MASK,
    authorized_entry_from_wire,
    bundle_from_wire,
    published_from_wire,
    revision_from_wire,
    svid_from_wire,
    token_from_wire,
)
from authsec_sdk.tls import mtls_client_context, tls_client_context, unsafe_bootstrap_client_context
from icp_agent.domain.agent_state import DenialReason
from icp_agent.domain.sync_plan import merged_entries, stale_entries
from icp_agent.ports import (
    Attested,
    DeniedByServerError,
    MalformedAnswerError,
    NodeAttestation,
    RefusedByServerError,
    ServerUnavailableError,
    SigningRefusal,
    SigningRequest,
)
from icp_agent.server_answers import mapped, then

logger = logging.getLogger(__name__)

DEADLINE: Final = 30.0
"""Seconds for each call, a whole paged sync counting as one."""

MAXIMUM_IDS: Final = 500
"""Entry ids in one message of a sync, whatever page size the server shows."""

MAXIMUM_ENTRIES: Final = 1_000_000
_MAXIMUM_MESSAGE: Final = 32 * 1024 * 1024
_MAXIMUM_VERSION: Final = 255

_SyncStream: TypeAlias = Stream[entry_pb2.SyncAuthorizedEntriesRequest, entry_pb2.SyncAuthorizedEntriesResponse]


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where the servers of which trust domain listen."""

    host: str
    """One host, or several with commas between them, each with a port of its own (`a:1,b:2`) or the common one."""
    port: int
    trust_domain: TrustDomain

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """Every server's host and port."""
        return tuple(_place(text.strip(), self.port) for text in self.host.split(",") if text.strip())

    def channel(self, context: ssl.SSLContext) -> Channel:
        """Open a channel; whoever calls paces the attempts."""
        return Channel.addresses(
            self.places,
            ssl=context,
            max_receive_bytes=_MAXIMUM_MESSAGE,
            max_backoff=0,
            connect_timeout=DEADLINE,
        )


def _place(text: str, port: int) -> tuple[str, int]:
    host, colon, own = text.rpartition(":")
    if colon and ":" not in host and own.isascii() and own.isdigit() and 0 < int(own) < 65536:
        return host, int(own)
    return text, port  # a name, or an IPv6 address


class BootstrapClient:
    """What a node without an SVID may do: attest. `AttestationAPI` over TLS without a client certificate."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    @classmethod
    @asynccontextmanager
    async def connect(cls, address: ServerAddress, trusted: X509Bundle | None) -> AsyncIterator[Self]:
        """A client that believes the servers of a bundle, or with None whoever presents the server's ID."""
        authorizer = authorize_id(server_id(address.trust_domain))
        if trusted is None:
            context = unsafe_bootstrap_client_context(authorizer, alpn=("h2",))
        else:
            source = X509ContextHolder(X509Context((), BundleSet.of(trusted)))
            context = tls_client_context(source, authorizer, alpn=("h2",))
        async with address.channel(context) as channel:
            yield cls(channel)

    async def attest(self, attestor: str, attestation: NodeAttestation, csr: bytes) -> Attested:
        """See `AttestationAPI`. Bundle and SVID come over one connection, so one server vouches for both."""
        return await mapped(self._attest(attestor, attestation, csr))

    async def _attest(self, attestor: str, attestation: NodeAttestation, csr: bytes) -> Attested:
        request = agent_pb2.AttestAgentRequest(
            params=agent_pb2.AttestAgentRequest.Params(
                data=types_pb2.AttestationData(type=attestor, payload=attestation.payload),
                params=agent_pb2.AgentX509SVIDParams(csr=csr),
            )
        )
        stub = agent_grpc.AgentStub(self._channel)
        async with stub.AttestAgent.open(timeout=DEADLINE) as stream:
            await stream.send_message(request)
            while (answer := await stream.recv_message()) and answer.WhichOneof("step") == "challenge":
                response = await attestation.respond(answer.challenge)
                await stream.send_message(agent_pb2.AttestAgentRequest(challenge_response=response))
            await stream.end()
        if answer is None:
            raise MalformedAnswerError("the server ended the attestation without a result")
        svid = svid_from_wire(answer.result.svid)
        bundle = await bundle_grpc.BundleStub(self._channel).GetBundle(bundle_pb2.GetBundleRequest(), timeout=DEADLINE)
        return Attested(svid, bundle_from_wire(bundle), answer.result.reattestable)


@dataclass(slots=True)
class _Line:
    """A channel, how many calls use it, and whether it is to be closed after the last."""

    channel: Channel
    calls: int = 0
    retired: bool = False


class ServerClient:
    """`ServerAPI` over mutual TLS: the peer must be exactly `spiffe://<trust domain>/spire/server`.

    Certificate and bundle are those `source` has when a connection is made; `reconnect` makes new calls use new ones.
    `outcome` is told of each call that succeeded (None) or did not get through, and may raise in its place.
    """

    def __init__(
        self,
        address: ServerAddress,
        source: X509ContextSource,
        *,
        paged: bool = True,
        outcome: Callable[[Exception | None], None] = lambda _: None,
    ) -> None:
        self._address = address
        self._outcome = outcome
        self._paged = paged
        authorizer = authorize_id(server_id(address.trust_domain))
        self._context = mtls_client_context(source, authorizer, alpn=("h2",))
        self._line = _Line(address.channel(self._context))
        self._replacing = False

    @contextmanager
    def replacing_svid(self) -> Iterator[None]:
        """While open, a denial proves nothing: the server forgets the old SVID before the new one is here."""
        self._replacing = True
        try:
            yield
        finally:
            self._replacing = False

    async def reconnect(self) -> None:
        """Let calls under way end on their connection and begin the next ones on another."""
        before, self._line = self._line, _Line(self._address.channel(self._context))
        before.retired = True
        if not before.calls:
            await before.channel.close()

    async def close(self) -> None:
        """End everything."""
        await self._line.channel.close()

    async def bundle(self) -> PublishedBundle:
        """See `ServerAPI`."""
        async with self._channel() as channel:
            call = bundle_grpc.BundleStub(channel).GetBundle(bundle_pb2.GetBundleRequest(), timeout=DEADLINE)
            return await mapped(then(call, published_from_wire))

    async def federated_bundle(self, trust_domain: TrustDomain) -> TrustBundle | None:
        """See `ServerAPI`."""
        request = bundle_pb2.GetFederatedBundleRequest(trust_domain=trust_domain.name)
        async with self._channel() as channel:
            call = bundle_grpc.BundleStub(channel).GetFederatedBundle(request, timeout=DEADLINE)
            try:
                bundle = await mapped(then(call, bundle_from_wire))
            except RefusedByServerError as error:
                if error.status == Status.NOT_FOUND.value:
                    return None
                raise
        if bundle.trust_domain != trust_domain:
            raise MalformedAnswerError(f"the server sent the bundle of {bundle.trust_domain} for {trust_domain}")
        return bundle

    async def authorized_entries(self, known: Mapping[str, AuthorizedEntry]) -> Sequence[AuthorizedEntry]:
        """See `ServerAPI`: by revisions and pages, or whole where paging is switched off."""
        async with self._channel() as channel:
            stub = entry_grpc.EntryStub(channel)
            return await mapped(self._sync(stub, known) if self._paged else self._get_entries(stub))

    async def sign(self, requests: Sequence[SigningRequest]) -> Sequence[IssuedX509SVID | SigningRefusal]:
        """See `ServerAPI`."""
        message = svid_pb2.BatchNewX509SVIDRequest(
            params=[svid_pb2.NewX509SVIDParams(entry_id=request.entry_id, csr=request.csr) for request in requests]
        )
        async with self._channel() as channel:
            answer = await mapped(svid_grpc.SVIDStub(channel).BatchNewX509SVID(message, timeout=DEADLINE))
        return [_signing_answer(result) for result in answer.results]

    async def new_jwt_svid(self, entry_id: str, audience: Sequence[str]) -> IssuedToken:
        """See `ServerAPI`."""
        message = svid_pb2.NewJWTSVIDRequest(entry_id=entry_id, audience=audience)
        async with self._channel() as channel:
            call = svid_grpc.SVIDStub(channel).NewJWTSVID(message, timeout=DEADLINE)
            return await mapped(then(call, lambda answer: token_from_wire(answer.svid)))

    async def renew(self, csr: bytes) -> IssuedX509SVID:
        """See `ServerAPI`."""
        message = agent_pb2.RenewAgentRequest(params=agent_pb2.AgentX509SVIDParams(csr=csr))
        async with self._channel() as channel:
            call = agent_grpc.AgentStub(channel).RenewAgent(message, timeout=DEADLINE)
            return await mapped(then(call, lambda answer: svid_from_wire(answer.svid)))

    async def post_status(self, version: str) -> None:
        """See `ServerAPI`."""
        message = agent_pb2.PostStatusRequest(agent_version=version[:_MAXIMUM_VERSION])
        async with self._channel() as channel:
            await mapped(agent_grpc.AgentStub(channel).PostStatus(message, timeout=DEADLINE))

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[Channel]:
        line = self._line
        line.calls += 1
        try:
            yield line.channel
            self._outcome(None)
        except ServerUnavailableError as error:
            self._outcome(error)
            raise
        except DeniedByServerError as error:
            if error.reason is DenialReason.AGENT_NOT_ACTIVE and (self._replacing or line.retired):
                raise ServerUnavailableError(f"the agent's SVID was replaced during the call: {error}") from error
            raise
        finally:
            line.calls -= 1
            if line.retired and not line.calls:
                await line.channel.close()

    async def _get_entries(self, stub: entry_grpc.EntryStub) -> list[AuthorizedEntry]:
        request = entry_pb2.GetAuthorizedEntriesRequest(output_mask=AUTHORIZED_ENTRY_MASK)
        answer = await stub.GetAuthorizedEntries(request, timeout=DEADLINE)
        return self._entries(answer.entries)

    async def _sync(self, stub: entry_grpc.EntryStub, known: Mapping[str, AuthorizedEntry]) -> list[AuthorizedEntry]:
        async with stub.SyncAuthorizedEntries.open(timeout=DEADLINE) as stream:
            await stream.send_message(entry_pb2.SyncAuthorizedEntriesRequest(output_mask=AUTHORIZED_ENTRY_MASK))
            first = await _next(stream)
            if not first.entry_revisions:
                # Up to one page: this is the complete list.
                return self._entries(first.entries)
            page_size = min(len(first.entry_revisions), MAXIMUM_IDS)
            revisions = await self._revisions(stream, first)
            wanted = stale_entries(known, revisions)
            fetched: list[AuthorizedEntry] = []
            for start in range(0, len(wanted), page_size):
                ids = wanted[start : start + page_size]
                await stream.send_message(entry_pb2.SyncAuthorizedEntriesRequest(ids=ids))
                fetched += await self._pages(stream, len(ids))
            await stream.end()
        return merged_entries(known, revisions, fetched)

    async def _revisions(
        self, stream: _SyncStream, first: entry_pb2.SyncAuthorizedEntriesResponse
    ) -> list[EntryRevision]:
        page = first
        revisions: list[EntryRevision] = []
        while True:
            if page.entries:
                raise MalformedAnswerError("the server sent entries among entry revisions")
            revisions += [revision_from_wire(message) for message in page.entry_revisions]
            if len(revisions) > MAXIMUM_ENTRIES:
                raise MalformedAnswerError(f"the server sent more than {MAXIMUM_ENTRIES} entry revisions")
            if not page.more:
                return revisions
            page = await _next(stream)

    async def _pages(self, stream: _SyncStream, asked: int) -> list[AuthorizedEntry]:
        entries: list[AuthorizedEntry] = []
        received = 0
        while True:
            page = await _next(stream)
            if page.entry_revisions:
                raise MalformedAnswerError("the server sent entry revisions among entries")
            received += len(page.entries)
            if received > asked:
                raise MalformedAnswerError(f"the server sent more entries than the {asked} it was asked for")
            entries += self._entries(page.entries)
            if not page.more:
                return entries

    def _entries(self, messages: Sequence[types_pb2.Entry]) -> list[AuthorizedEntry]:
        entries = []
        for message in messages:
            try:
                entries.append(authorized_entry_from_wire(message, self._address.trust_domain))
            except InvalidEntryError as error:
                # One entry we cannot read must not cost the others their identities.
                logger.warning(
                    "Received a malformed entry from the server entry_id=%s error=%r", message.id, str(error)
                )
        return entries


async def _next(stream: _SyncStream) -> entry_pb2.SyncAuthorizedEntriesResponse:
    message = await stream.recv_message()
    if message is None:
        await stream.end()
        if stream.trailing_metadata is None:
            await stream.recv_trailing_metadata()  # raises the call's status, unless it is OK
        raise MalformedAnswerError("the server ended the sync before it was complete")
    return message


def _signing_answer(result: svid_pb2.BatchNewX509SVIDResponse.Result) -> IssuedX509SVID | SigningRefusal:
    if result.status.code:
        return SigningRefusal(result.status.code, result.status.message)
    try:
        return svid_from_wire(result.svid)
    except SpiffeError as error:
        return SigningRefusal(Status.UNKNOWN.value, str(error))
