"""The SVID service: identities for agents' entries and for administrators, CA certificates for downstream servers."""

from __future__ import annotations

import hashlib

import grpclib.server

from authsec_sdk.proto.spire import svid_grpc, svid_pb2, types_pb2
from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.reserved_ids import check_workload_id
from authsec_sdk.spire.svids import IssuedToken
from authsec_sdk.spire.wire import jwt_svid_to_wire, spiffe_id_to_wire, wit_svid_to_wire
from icp_server.domain.issued import IssuedSVID, NewX509SVID
from icp_server.domain.results import ItemResult
from icp_server.grpc_api.decode import member_id, request_of
from icp_server.grpc_api.errors import item_status
from icp_server.grpc_api.limits import RateLimits, take_turn
from icp_server.grpc_api.request import Request, current_request
from icp_server.services.svids import SVIDService
from icp_server.services.tokens import NewWITSVID, TokenService
from icp_server.telemetry import ServerCounters


class SVIDAPI(svid_grpc.SVIDBase):
    """Decodes, calls the use case, encodes."""

    def __init__(
        self,
        svids: SVIDService,
        tokens: TokenService,
        trust_domain: TrustDomain,
        limits: RateLimits,
        counters: ServerCounters,
    ) -> None:
        self._svids = svids
        self._tokens = tokens
        self._trust_domain = trust_domain
        self._limits = limits
        self._counters = counters

    async def BatchNewX509SVID(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[svid_pb2.BatchNewX509SVIDRequest, svid_pb2.BatchNewX509SVIDResponse]
    ) -> None:
        """Sign a batch for an agent's entries; each item has a status of its own."""
        message = await request_of(stream)
        request = current_request()
        await take_turn(self._limits.signing, request.caller.host, "certificate signing", len(message.params))
        items = [NewX509SVID(params.entry_id, params.csr) for params in message.params]
        results = await self._svids.batch_new_x509(request.agent, items)
        self._counters.signatures.increment(sum(result.ok for result in results))
        reply = svid_pb2.BatchNewX509SVIDResponse(results=[_item(result) for result in results])
        if request.trail.enabled:
            _audit(request, items, results)
        await stream.send_message(reply)

    async def MintX509SVID(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[svid_pb2.MintX509SVIDRequest, svid_pb2.MintX509SVIDResponse]
    ) -> None:
        """Sign what an administrator's CSR names."""
        message = await request_of(stream)
        request = current_request()
        if request.trail.enabled:
            request.note(csr=csr_digest(message.csr), ttl=message.ttl)
        issued = await self._svids.mint_x509(message.csr, message.ttl)
        self._counters.signatures.increment()
        request.note(spiffe_id=issued.spiffe_id, expires_at=issued.expires_at)
        await stream.send_message(svid_pb2.MintX509SVIDResponse(svid=issued_to_wire(issued)))

    async def MintJWTSVID(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[svid_pb2.MintJWTSVIDRequest, svid_pb2.MintJWTSVIDResponse]
    ) -> None:
        """Sign a JWT-SVID for the ID an administrator names."""
        message = await request_of(stream)
        request = current_request()
        request.note(audience=",".join(message.audience), ttl=message.ttl)
        self._tokens.profiles.require_jwt()
        spiffe_id = self._workload_id(message.id)
        request.note(spiffe_id=spiffe_id)
        svid = await self._tokens.mint_jwt(spiffe_id, message.audience, message.ttl)
        self._counters.signatures.increment()
        request.note(expires_at=svid.expires_at)
        await stream.send_message(svid_pb2.MintJWTSVIDResponse(svid=jwt_svid_to_wire(svid)))

    async def NewJWTSVID(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[svid_pb2.NewJWTSVIDRequest, svid_pb2.NewJWTSVIDResponse]
    ) -> None:
        """Sign a JWT-SVID for an agent's entry."""
        message = await request_of(stream)
        request = current_request()
        request.note(entry_id=message.entry_id, audience=",".join(message.audience))
        await take_turn(self._limits.jwt_signing, request.caller.host, "JWT signing request")
        svid = await self._tokens.new_jwt(request.agent, message.entry_id, message.audience)
        self._counters.signatures.increment()
        request.note(spiffe_id=svid.id, expires_at=svid.expires_at)
        await stream.send_message(svid_pb2.NewJWTSVIDResponse(svid=jwt_svid_to_wire(svid)))

    async def MintWITSVID(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[svid_pb2.MintWITSVIDRequest, svid_pb2.MintWITSVIDResponse]
    ) -> None:
        """Sign a WIT-SVID for the ID and the key an administrator names."""
        message = await request_of(stream)
        request = current_request()
        request.note(ttl=message.ttl)
        self._tokens.profiles.require_wit()
        spiffe_id = self._workload_id(message.id)
        request.note(spiffe_id=spiffe_id)
        svid = await self._tokens.mint_wit(spiffe_id, message.public_key, message.ttl, message.signing_algorithm)
        self._counters.signatures.increment()
        request.note(expires_at=svid.expires_at)
        await stream.send_message(svid_pb2.MintWITSVIDResponse(svid=wit_svid_to_wire(svid)))

    async def BatchNewWITSVID(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[svid_pb2.BatchNewWITSVIDRequest, svid_pb2.BatchNewWITSVIDResponse]
    ) -> None:
        """Sign a batch of WIT-SVIDs for an agent's entries; each item has a status of its own."""
        message = await request_of(stream)
        request = current_request()
        await take_turn(self._limits.wit_signing, request.caller.host, "WIT signing request", len(message.params))
        items = [NewWITSVID(each.entry_id, each.public_key, each.signing_algorithm) for each in message.params]
        results = await self._tokens.batch_new_wit(request.agent, items)
        self._counters.signatures.increment(sum(result.ok for result in results))
        if request.trail.enabled:
            for item, result in zip(items, results, strict=True):
                named = {"spiffe_id": result.value.id, "expires_at": result.value.expires_at} if result.value else {}
                request.record_item(item_status(result.error), {"entry_id": item.entry_id, **named})
        await stream.send_message(svid_pb2.BatchNewWITSVIDResponse(results=[_wit_item(result) for result in results]))

    async def NewDownstreamX509CA(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[svid_pb2.NewDownstreamX509CARequest, svid_pb2.NewDownstreamX509CAResponse]
    ) -> None:
        """Sign a CA certificate for a downstream server."""
        message = await request_of(stream)
        request = current_request()
        if request.trail.enabled:
            request.note(csr=csr_digest(message.csr), trust_domain_id=self._trust_domain)
        await take_turn(self._limits.signing, request.caller.host, "downstream CA signing")
        authority = await self._svids.new_downstream_ca(message.csr, message.preferred_ttl)
        self._counters.signatures.increment()
        request.note(expires_at=authority.expires_at)
        await stream.send_message(
            svid_pb2.NewDownstreamX509CAResponse(ca_cert_chain=authority.chain, x509_authorities=authority.roots)
        )

    def _workload_id(self, message: types_pb2.SPIFFEID) -> SpiffeID:
        return member_id(message, self._trust_domain, check_workload_id, "invalid SPIFFE ID")


def issued_to_wire(issued: IssuedSVID) -> types_pb2.X509SVID:
    """Encode a signed chain, leaf first."""
    return types_pb2.X509SVID(
        cert_chain=issued.chain,
        id=spiffe_id_to_wire(issued.spiffe_id),
        expires_at=issued.expires_at,
        hint=issued.hint,
    )


def csr_digest(csr: bytes) -> str:
    """Name a CSR in an audit line, as SPIRE does: its SHA-256."""
    return hashlib.sha256(csr).hexdigest() if csr else ""


def _item(result: ItemResult[IssuedSVID]) -> svid_pb2.BatchNewX509SVIDResponse.Result:
    return svid_pb2.BatchNewX509SVIDResponse.Result(
        status=item_status(result.error),
        svid=issued_to_wire(result.value) if result.ok and result.value is not None else None,
    )


def _wit_item(result: ItemResult[IssuedToken]) -> svid_pb2.BatchNewWITSVIDResponse.Result:
    return svid_pb2.BatchNewWITSVIDResponse.Result(
        status=item_status(result.error), svid=wit_svid_to_wire(result.value) if result.value is not None else None
    )


def _audit(request: Request, items: list[NewX509SVID], results: list[ItemResult[IssuedSVID]]) -> None:
    for item, result in zip(items, results, strict=True):
        fields: dict[str, object] = {"csr": csr_digest(item.csr), "entry_id": item.entry_id, "spiffe_id": ""}
        if result.ok and result.value is not None:
            fields |= {"spiffe_id": result.value.spiffe_id, "expires_at": result.value.expires_at}
        request.record_item(item_status(result.error), fields)
