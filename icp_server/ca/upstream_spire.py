"""UpstreamAuthority "spire": the server stands below another SPIRE server, as the holder of a downstream entry there.

Its identity for the calls comes from a local agent's Workload API; it is not this server's own SVID.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, TypeVar

from authsec_sdk.authz import authorize_id
from authsec_sdk.errors import SpiffeError
from authsec_sdk.proto.spire import bundle_grpc, bundle_pb2, svid_grpc, svid_pb2, types_pb2
from authsec_sdk.rpc import Channel, GRPCError, Status
from authsec_sdk.spiffe import TrustDomain
from authsec_sdk.spire.reserved_ids import server_id
from authsec_sdk.spire.tainted import PublishedBundle
from authsec_sdk.spire.wire import published_from_wire
from authsec_sdk.tls import mtls_client_context
from authsec_sdk.workloadapi import X509Source
from icp_server.ca.upstream import MintedCA, UpstreamError
from icp_server.domain.authorities import AuthorityKind
from icp_server.domain.upstream_settings import SpireUpstream

T = TypeVar("T")

DEADLINE: Final = 30.0
"""Seconds a call may take, and seconds the local agent has to give us an identity."""
_MAXIMUM_MESSAGE: Final = 32 * 1024 * 1024


class UpstreamSpire:
    """Implements `UpstreamAuthority` over another server's API. Make it by `open`."""

    def __init__(self, settings: SpireUpstream, trust_domain: TrustDomain, source: X509Source) -> None:
        self._settings = settings
        self._trust_domain = trust_domain
        self._source = source

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: SpireUpstream, trust_domain: TrustDomain) -> AsyncIterator[UpstreamSpire]:
        """Begin to ask the local agent; nothing is waited for, so that a server with an authority can start alone."""
        source = X509Source(f"unix://{settings.workload_api.absolute()}")
        source.start()
        try:
            yield cls(settings, trust_domain, source)
        finally:
            await source.aclose()

    async def mint(self, csr: bytes, ttl: timedelta) -> MintedCA:
        """See `UpstreamAuthority`."""
        request = svid_pb2.NewDownstreamX509CARequest(csr=csr, preferred_ttl=int(ttl.total_seconds()))

        async def call(channel: Channel) -> MintedCA:
            answer = await svid_grpc.SVIDStub(channel).NewDownstreamX509CA(request, timeout=DEADLINE)
            return MintedCA(tuple(answer.ca_cert_chain), tuple(answer.x509_authorities))

        return await self._call(call)

    async def publish(
        self, kind: AuthorityKind, key_id: str, public_key: bytes, not_after: int
    ) -> PublishedBundle | None:
        """See `UpstreamAuthority`. A server that does not know this kind of authority publishes none."""

        async def call(channel: Channel) -> PublishedBundle:
            stub = bundle_grpc.BundleStub(channel)
            message = types_pb2.Bundle(trust_domain=self._trust_domain.name)
            if kind is AuthorityKind.JWT:
                jwt_key = types_pb2.JWTKey(public_key=public_key, key_id=key_id, expires_at=not_after)
                jwt = await stub.PublishJWTAuthority(
                    bundle_pb2.PublishJWTAuthorityRequest(jwt_authority=jwt_key), timeout=DEADLINE
                )
                message.jwt_authorities.extend(jwt.jwt_authorities)
            else:
                wit_key = types_pb2.WITKey(public_key=public_key, key_id=key_id, expires_at=not_after)
                wit = await stub.PublishWITAuthority(
                    bundle_pb2.PublishWITAuthorityRequest(wit_authority=wit_key), timeout=DEADLINE
                )
                message.wit_authorities.extend(wit.wit_authorities)
            return published_from_wire(message)

        try:
            return await self._call(call)
        except UpstreamError as error:
            cause = error.__cause__
            if isinstance(cause, GRPCError) and cause.status is Status.UNIMPLEMENTED:
                return None
            raise

    async def bundle(self) -> PublishedBundle | None:
        """See `UpstreamAuthority`."""

        async def call(channel: Channel) -> PublishedBundle:
            answer = await bundle_grpc.BundleStub(channel).GetBundle(bundle_pb2.GetBundleRequest(), timeout=DEADLINE)
            return published_from_wire(answer)

        published = await self._call(call)
        if published.bundle.trust_domain != self._trust_domain:
            raise UpstreamError(
                f"the upstream server is one of {published.bundle.trust_domain}, and this one of {self._trust_domain}"
            )
        return published

    async def _call(self, call: Callable[[Channel], Awaitable[T]]) -> T:
        """Run one call over a connection of its own, with the identity of the hour."""
        settings = self._settings
        where = f"the upstream server {settings.host}:{settings.port}"
        try:
            await self._source.ready(DEADLINE)
            context = mtls_client_context(self._source, authorize_id(server_id(self._trust_domain)), alpn=("h2",))
            channel = Channel.tcp(
                settings.host,
                settings.port,
                ssl=context,
                max_receive_bytes=_MAXIMUM_MESSAGE,
                max_backoff=0,
                connect_timeout=DEADLINE,
            )
            async with channel:
                return await call(channel)
        except GRPCError as error:
            raise UpstreamError(f"{where} answered {error.status.name}: {error.message or ''}") from error
        except (SpiffeError, OSError, TimeoutError) as error:
            raise UpstreamError(f"{where} cannot be used: {error}") from error
