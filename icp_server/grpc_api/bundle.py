"""The Bundle service: the trust domain's own bundle, for everybody who asks, and the keys of downstream servers."""

from __future__ import annotations

import grpclib.server

from authsec_sdk.proto.spire import bundle_grpc, bundle_pb2, types_pb2
from authsec_sdk.spire.wire import published_to_wire
from icp_server.domain.authorities import AuthorityKind
from icp_server.domain.errors import InvalidArgument
from icp_server.grpc_api.decode import output_mask, request_of
from icp_server.grpc_api.limits import RateLimits, take_turn
from icp_server.grpc_api.request import current_request
from icp_server.services.bundles import BundleService, TokenAuthority


class BundleAPI(bundle_grpc.BundleBase):
    """Decodes, calls the use case, encodes. What needs federation answers UNIMPLEMENTED."""

    def __init__(self, bundles: BundleService, limits: RateLimits) -> None:
        self._bundles = bundles
        self._limits = limits

    async def GetBundle(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[bundle_pb2.GetBundleRequest, types_pb2.Bundle]
    ) -> None:
        """Send the own bundle."""
        request = await request_of(stream)
        published = await self._bundles.published()
        current_request().note(trust_domain_id=published.bundle.trust_domain)
        await stream.send_message(published_to_wire(published, output_mask(request)))

    async def PublishJWTAuthority(  # noqa: N802  (the method's name on the wire)
        self,
        stream: grpclib.server.Stream[bundle_pb2.PublishJWTAuthorityRequest, bundle_pb2.PublishJWTAuthorityResponse],
    ) -> None:
        """Add a downstream server's JWT authority; send all there are."""
        message = await request_of(stream)
        given = message.HasField("jwt_authority")
        bundle = await self._publish(AuthorityKind.JWT, message.jwt_authority if given else None)
        await stream.send_message(bundle_pb2.PublishJWTAuthorityResponse(jwt_authorities=bundle.jwt_authorities))

    async def PublishWITAuthority(  # noqa: N802  (the method's name on the wire)
        self,
        stream: grpclib.server.Stream[bundle_pb2.PublishWITAuthorityRequest, bundle_pb2.PublishWITAuthorityResponse],
    ) -> None:
        """Add a downstream server's WIT authority; send all there are."""
        message = await request_of(stream)
        given = message.HasField("wit_authority")
        bundle = await self._publish(AuthorityKind.WIT, message.wit_authority if given else None)
        await stream.send_message(bundle_pb2.PublishWITAuthorityResponse(wit_authorities=bundle.wit_authorities))

    async def _publish(
        self, kind: AuthorityKind, message: types_pb2.JWTKey | types_pb2.WITKey | None
    ) -> types_pb2.Bundle:
        request = current_request()
        await take_turn(self._limits.publishing, request.caller.host, "key publishing")
        self._bundles.require(kind)
        if message is None:
            raise InvalidArgument(f"missing {kind.words} authority")
        request.note(**{f"{kind.value}_authority_key_id": message.key_id})
        request.note(**{f"{kind.value}_authority_expires_at": message.expires_at})
        key = TokenAuthority(message.key_id, message.public_key, message.expires_at)
        return published_to_wire(await self._bundles.publish_key(kind, key))
