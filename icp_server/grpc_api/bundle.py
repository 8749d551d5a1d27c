"""The Bundle service: the own bundle for everybody, keys of downstream servers, and bundles of other trust domains."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpclib.server

from authsec_sdk.proto.spire import bundle_grpc, bundle_pb2, types_pb2
from authsec_sdk.spire.tainted import PublishedBundle
from authsec_sdk.spire.wire import published_to_wire
from icp_server.domain.authorities import AuthorityKind
from icp_server.domain.errors import InvalidArgument, ServiceError
from icp_server.domain.federation import ALL_FIELDS, BundleFields, DeleteMode
from icp_server.domain.results import ItemResult, PageRequest
from icp_server.grpc_api.bundle_fields import audited, bundle_of, masked_audit, own_authorities
from icp_server.grpc_api.decode import output_mask, request_of, trust_domain_of
from icp_server.grpc_api.errors import item_status
from icp_server.grpc_api.limits import RateLimits, take_turn
from icp_server.grpc_api.request import current_request
from icp_server.services.bundles import BundleService, TokenAuthority

_Result = TypeVar("_Result")

INVALID_TRUST_DOMAIN = "trust domain argument is not valid"


class BundleAPI(bundle_grpc.BundleBase):
    """Decodes, calls the use case, encodes."""

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

    async def AppendBundle(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[bundle_pb2.AppendBundleRequest, types_pb2.Bundle]
    ) -> None:
        """Add authorities to the own bundle; send what it is then."""
        message = await request_of(stream)
        own = (await self._bundles.get()).trust_domain
        current_request().note(**audited(message))
        appended = await self._bundles.append(own_authorities(message, own))
        await stream.send_message(published_to_wire(appended, output_mask(message)))

    async def CountBundles(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[bundle_pb2.CountBundlesRequest, bundle_pb2.CountBundlesResponse]
    ) -> None:
        """Send how many bundles there are, the own one included."""
        await request_of(stream)
        await stream.send_message(bundle_pb2.CountBundlesResponse(count=await self._bundles.count()))

    async def ListFederatedBundles(  # noqa: N802  (the method's name on the wire)
        self,
        stream: grpclib.server.Stream[bundle_pb2.ListFederatedBundlesRequest, bundle_pb2.ListFederatedBundlesResponse],
    ) -> None:
        """Send one page of the bundles of other trust domains."""
        message = await request_of(stream)
        size = max(0, message.page_size)
        page = await self._bundles.list_federated(PageRequest(size, message.page_token if size else ""))
        mask = output_mask(message)
        bundles = [published_to_wire(each, mask) for each in page.items]
        reply = bundle_pb2.ListFederatedBundlesResponse(bundles=bundles, next_page_token=page.next_token)
        await stream.send_message(reply)

    async def GetFederatedBundle(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[bundle_pb2.GetFederatedBundleRequest, types_pb2.Bundle]
    ) -> None:
        """Send the bundle of another trust domain."""
        message = await request_of(stream)
        current_request().note(trust_domain_id=message.trust_domain)
        trust_domain = trust_domain_of(message.trust_domain, INVALID_TRUST_DOMAIN)
        found = await self._bundles.get_federated(trust_domain)
        await stream.send_message(published_to_wire(found, output_mask(message)))

    async def BatchCreateFederatedBundle(  # noqa: N802  (the method's name on the wire)
        self,
        stream: grpclib.server.Stream[
            bundle_pb2.BatchCreateFederatedBundleRequest, bundle_pb2.BatchCreateFederatedBundleResponse
        ],
    ) -> None:
        """Keep bundles of trust domains that have none, each with an outcome of its own."""
        message = await request_of(stream)
        result = bundle_pb2.BatchCreateFederatedBundleResponse.Result
        results = [
            await self._each(each, self._bundles.create_federated, result, output_mask(message))
            for each in message.bundle
        ]
        await stream.send_message(bundle_pb2.BatchCreateFederatedBundleResponse(results=results))

    async def BatchUpdateFederatedBundle(  # noqa: N802  (the method's name on the wire)
        self,
        stream: grpclib.server.Stream[
            bundle_pb2.BatchUpdateFederatedBundleRequest, bundle_pb2.BatchUpdateFederatedBundleResponse
        ],
    ) -> None:
        """Replace bundles, whole without an input mask, else the parts it names."""
        message = await request_of(stream)
        mask = message.input_mask if message.HasField("input_mask") else None
        fields = ALL_FIELDS if mask is None else _fields(mask)

        async def update(bundle: PublishedBundle) -> PublishedBundle:
            return await self._bundles.update_federated(bundle, fields)

        result = bundle_pb2.BatchUpdateFederatedBundleResponse.Result
        results = [
            await self._each(each, update, result, output_mask(message), input_mask=mask) for each in message.bundle
        ]
        await stream.send_message(bundle_pb2.BatchUpdateFederatedBundleResponse(results=results))

    async def BatchSetFederatedBundle(  # noqa: N802  (the method's name on the wire)
        self,
        stream: grpclib.server.Stream[
            bundle_pb2.BatchSetFederatedBundleRequest, bundle_pb2.BatchSetFederatedBundleResponse
        ],
    ) -> None:
        """Keep bundles, in place of those there may be."""
        message = await request_of(stream)
        result = bundle_pb2.BatchSetFederatedBundleResponse.Result
        results = [
            await self._each(each, self._bundles.set_federated, result, output_mask(message)) for each in message.bundle
        ]
        await stream.send_message(bundle_pb2.BatchSetFederatedBundleResponse(results=results))

    async def BatchDeleteFederatedBundle(  # noqa: N802  (the method's name on the wire)
        self,
        stream: grpclib.server.Stream[
            bundle_pb2.BatchDeleteFederatedBundleRequest, bundle_pb2.BatchDeleteFederatedBundleResponse
        ],
    ) -> None:
        """Delete bundles; the mode says what becomes of the entries that federate with them."""
        message = await request_of(stream)
        try:
            mode = DeleteMode(message.mode)
        except ValueError:
            raise InvalidArgument(f'failed to parse deletion mode: unhandled delete mode "{message.mode}"') from None
        results = []
        for name in message.trust_domains:
            status = item_status((await self._delete(name, mode)).error)
            current_request().record_item(status, {"trust_domain_id": name, "mode": mode.name.lower()})
            results.append(bundle_pb2.BatchDeleteFederatedBundleResponse.Result(status=status, trust_domain=name))
        await stream.send_message(bundle_pb2.BatchDeleteFederatedBundleResponse(results=results))

    async def _delete(self, name: str, mode: DeleteMode) -> ItemResult[None]:
        try:
            await self._bundles.delete_federated(trust_domain_of(name, INVALID_TRUST_DOMAIN), mode)
        except ServiceError as error:
            return ItemResult(error=error)
        return ItemResult()

    async def _each(
        self,
        message: types_pb2.Bundle,
        keep: Callable[[PublishedBundle], Awaitable[PublishedBundle]],
        result: Callable[..., _Result],
        mask: types_pb2.BundleMask | None,
        *,
        input_mask: types_pb2.BundleMask | None = None,
    ) -> _Result:
        """Do with one item of a batch what is to be done with each, and write its audit line."""
        kept: PublishedBundle | None = None
        error: ServiceError | None = None
        try:
            kept = await keep(bundle_of(message, INVALID_TRUST_DOMAIN))
        except ServiceError as refused:
            error = refused
        status = item_status(error)
        request = current_request()
        if request.trail.enabled:
            request.record_item(status, masked_audit(message, input_mask))
        fields: dict[str, Any] = {} if kept is None else {"bundle": published_to_wire(kept, mask)}
        return result(status=status, **fields)


def _fields(mask: types_pb2.BundleMask) -> BundleFields:
    return BundleFields(
        x509_authorities=mask.x509_authorities,
        jwt_authorities=mask.jwt_authorities,
        wit_authorities=mask.wit_authorities,
        refresh_hint=mask.refresh_hint,
        sequence_number=mask.sequence_number,
    )
