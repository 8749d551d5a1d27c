"""The Bundle service: the trust domain's own bundle, for everybody who asks."""

from __future__ import annotations

import grpclib.server

from authsec_sdk.proto.spire import bundle_grpc, bundle_pb2, types_pb2
from authsec_sdk.spire.wire import bundle_to_wire
from icp_server.grpc_api.decode import output_mask, request_of
from icp_server.grpc_api.request import current_request
from icp_server.services.bundles import BundleService


class BundleAPI(bundle_grpc.BundleBase):
    """Decodes, calls the use case, encodes. What needs federation or downstream servers answers UNIMPLEMENTED."""

    def __init__(self, bundles: BundleService) -> None:
        self._bundles = bundles

    async def GetBundle(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[bundle_pb2.GetBundleRequest, types_pb2.Bundle]
    ) -> None:
        """Send the own bundle."""
        request = await request_of(stream)
        bundle = await self._bundles.get()
        current_request().note(trust_domain_id=bundle.trust_domain)
        await stream.send_message(bundle_to_wire(bundle, output_mask(request)))
