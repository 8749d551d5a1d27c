"""The SVID service: X509-SVIDs in batches for agents, one by one for administrators."""

from __future__ import annotations

import hashlib

import grpclib.server

from authsec_sdk.proto.spire import svid_grpc, svid_pb2, types_pb2
from authsec_sdk.spire.wire import spiffe_id_to_wire
from icp_server.domain.issued import IssuedSVID, NewX509SVID
from icp_server.domain.results import ItemResult
from icp_server.grpc_api.decode import request_of
from icp_server.grpc_api.errors import item_status
from icp_server.grpc_api.limits import RateLimits, take_turn
from icp_server.grpc_api.request import Request, current_request
from icp_server.services.svids import SVIDService
from icp_server.telemetry import ServerCounters


class SVIDAPI(svid_grpc.SVIDBase):
    """Decodes, calls the use case, encodes. JWT-SVIDs, WIT-SVIDs and downstream CAs answer UNIMPLEMENTED."""

    def __init__(self, svids: SVIDService, limits: RateLimits, counters: ServerCounters) -> None:
        self._svids = svids
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


def _audit(request: Request, items: list[NewX509SVID], results: list[ItemResult[IssuedSVID]]) -> None:
    for item, result in zip(items, results, strict=True):
        fields: dict[str, object] = {"csr": csr_digest(item.csr), "entry_id": item.entry_id, "spiffe_id": ""}
        if result.ok and result.value is not None:
            fields |= {"spiffe_id": result.value.spiffe_id, "expires_at": result.value.expires_at}
        request.record_item(item_status(result.error), fields)
