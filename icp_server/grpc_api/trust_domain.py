"""The TrustDomain service: relationships with other trust domains, and their bundles on demand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpclib.server

from authsec_sdk.proto import empty_pb2
from authsec_sdk.proto.spire import trustdomain_grpc, trustdomain_pb2, types_pb2
from icp_server.domain.errors import ServiceError
from icp_server.domain.federation import FederationRelationship
from icp_server.domain.results import PageRequest
from icp_server.grpc_api.decode import output_mask, request_of, trust_domain_of
from icp_server.grpc_api.errors import item_status
from icp_server.grpc_api.relationship_fields import audited, changes_of, relationship_of, relationship_to_wire
from icp_server.grpc_api.request import current_request
from icp_server.services.trust_domains import TrustDomainService

_Result = TypeVar("_Result")
_MALFORMED = "failed to parse trust domain"


class TrustDomainAPI(trustdomain_grpc.TrustDomainBase):
    """Decodes, calls the use case, encodes."""

    def __init__(self, trust_domains: TrustDomainService) -> None:
        self._trust_domains = trust_domains

    async def ListFederationRelationships(  # noqa: N802  (the method's name on the wire)
        self,
        stream: grpclib.server.Stream[
            trustdomain_pb2.ListFederationRelationshipsRequest, trustdomain_pb2.ListFederationRelationshipsResponse
        ],
    ) -> None:
        """Send one page of the relationships."""
        message = await request_of(stream)
        size = max(0, message.page_size)
        page = await self._trust_domains.list(PageRequest(size, message.page_token if size else ""))
        mask = output_mask(message)
        found = [relationship_to_wire(each, mask) for each in page.items]
        reply = trustdomain_pb2.ListFederationRelationshipsResponse(
            federation_relationships=found, next_page_token=page.next_token
        )
        await stream.send_message(reply)

    async def GetFederationRelationship(  # noqa: N802  (the method's name on the wire)
        self,
        stream: grpclib.server.Stream[
            trustdomain_pb2.GetFederationRelationshipRequest, types_pb2.FederationRelationship
        ],
    ) -> None:
        """Send one relationship."""
        message = await request_of(stream)
        current_request().note(trust_domain_id=message.trust_domain)
        found = await self._trust_domains.get(trust_domain_of(message.trust_domain, _MALFORMED))
        await stream.send_message(relationship_to_wire(found, output_mask(message)))

    async def BatchCreateFederationRelationship(  # noqa: N802  (the method's name on the wire)
        self,
        stream: grpclib.server.Stream[
            trustdomain_pb2.BatchCreateFederationRelationshipRequest,
            trustdomain_pb2.BatchCreateFederationRelationshipResponse,
        ],
    ) -> None:
        """Create relationships, each with an outcome of its own."""
        message = await request_of(stream)

        async def create(item: types_pb2.FederationRelationship) -> FederationRelationship:
            return await self._trust_domains.create(relationship_of(item))

        result = trustdomain_pb2.BatchCreateFederationRelationshipResponse.Result
        results = [
            await self._each(each, create, result, output_mask(message)) for each in message.federation_relationships
        ]
        self._follow(results)
        await stream.send_message(trustdomain_pb2.BatchCreateFederationRelationshipResponse(results=results))

    async def BatchUpdateFederationRelationship(  # noqa: N802  (the method's name on the wire)
        self,
        stream: grpclib.server.Stream[
            trustdomain_pb2.BatchUpdateFederationRelationshipRequest,
            trustdomain_pb2.BatchUpdateFederationRelationshipResponse,
        ],
    ) -> None:
        """Change relationships: whole without an input mask, else the fields it names."""
        message = await request_of(stream)
        mask = message.input_mask if message.HasField("input_mask") else None

        async def update(item: types_pb2.FederationRelationship) -> FederationRelationship:
            return await self._trust_domains.update(changes_of(item, mask))

        result = trustdomain_pb2.BatchUpdateFederationRelationshipResponse.Result
        results = [
            await self._each(each, update, result, output_mask(message), input_mask=mask)
            for each in message.federation_relationships
        ]
        self._follow(results)
        await stream.send_message(trustdomain_pb2.BatchUpdateFederationRelationshipResponse(results=results))

    async def BatchDeleteFederationRelationship(  # noqa: N802  (the method's name on the wire)
        self,
        stream: grpclib.server.Stream[
            trustdomain_pb2.BatchDeleteFederationRelationshipRequest,
            trustdomain_pb2.BatchDeleteFederationRelationshipResponse,
        ],
    ) -> None:
        """Remove relationships; the bundles stay."""
        message = await request_of(stream)
        results = []
        for name in message.trust_domains:
            status, shown = await self._delete(name)
            current_request().record_item(status, {"trust_domain_id": name})
            result = trustdomain_pb2.BatchDeleteFederationRelationshipResponse.Result
            results.append(result(status=status, trust_domain=shown))
        self._follow(results)
        await stream.send_message(trustdomain_pb2.BatchDeleteFederationRelationshipResponse(results=results))

    async def RefreshBundle(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[trustdomain_pb2.RefreshBundleRequest, empty_pb2.Empty]
    ) -> None:
        """Fetch a bundle now."""
        message = await request_of(stream)
        current_request().note(trust_domain_id=message.trust_domain)
        await self._trust_domains.refresh(trust_domain_of(message.trust_domain, _MALFORMED))
        await stream.send_message(empty_pb2.Empty())

    async def _delete(self, name: str) -> tuple[types_pb2.Status, str]:
        """What became of one deletion, and the trust domain as the answer names it: bare, if it is one."""
        shown = name
        try:
            trust_domain = trust_domain_of(name, _MALFORMED if name else "missing trust domain")
            shown = trust_domain.name
            await self._trust_domains.delete(trust_domain)
        except ServiceError as error:
            return item_status(error), shown
        return item_status(None), shown

    async def _each(
        self,
        message: types_pb2.FederationRelationship,
        work: Callable[[types_pb2.FederationRelationship], Awaitable[FederationRelationship]],
        result: Callable[..., _Result],
        mask: types_pb2.FederationRelationshipMask | None,
        *,
        input_mask: types_pb2.FederationRelationshipMask | None = None,
    ) -> _Result:
        """Do with one item of a batch what is to be done with each, and write its audit line."""
        fields: dict[str, Any] = {}
        error: ServiceError | None = None
        try:
            fields["federation_relationship"] = relationship_to_wire(await work(message), mask)
        except ServiceError as refused:
            error = refused
        status = item_status(error)
        request = current_request()
        if request.trail.enabled:
            request.record_item(status, audited(message, input_mask))
        return result(status=status, **fields)

    def _follow(self, results: list[Any]) -> None:
        if any(not result.status.code for result in results):
            self._trust_domains.changed()
