"""The Entry service: registration entries for operators, and for agents those they may serve."""

from __future__ import annotations

from collections.abc import Sequence

import grpclib.server

from authsec_sdk.proto.spire import entry_grpc, entry_pb2, types_pb2
from authsec_sdk.spiffe import TrustDomain
from authsec_sdk.spire.entries import EntryChanges, InvalidEntryError, RegistrationEntry
from authsec_sdk.spire.reserved_ids import check_member_id, check_workload_id
from authsec_sdk.spire.wire import entry_changes_from_wire, entry_to_wire, new_entry_from_wire
from icp_server.domain.errors import InvalidArgument, ServiceError
from icp_server.domain.filters import EntryFilter
from icp_server.domain.results import ItemResult, PageRequest
from icp_server.grpc_api.decode import federates_with_match, member_id, output_mask, request_of, selector_match
from icp_server.grpc_api.entry_sync import sync_authorized_entries
from icp_server.grpc_api.errors import item_status
from icp_server.grpc_api.request import current_request
from icp_server.services.entries import EntryService


class EntryAPI(entry_grpc.EntryBase):
    """Decodes, calls the use case, encodes."""

    def __init__(self, entries: EntryService, trust_domain: TrustDomain) -> None:
        self._entries = entries
        self._trust_domain = trust_domain

    async def BatchCreateEntry(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[entry_pb2.BatchCreateEntryRequest, entry_pb2.BatchCreateEntryResponse]
    ) -> None:
        """Create entries, each with an outcome of its own; beside ALREADY_EXISTS stands the entry that is there."""
        message = await request_of(stream)
        decoded = [self._new_entry(entry) for entry in message.entries]
        outcomes = iter(await self._entries.create([each for each in decoded if isinstance(each, RegistrationEntry)]))
        results = [next(outcomes) if isinstance(each, RegistrationEntry) else _refused(each) for each in decoded]
        mask = output_mask(message)
        reply = entry_pb2.BatchCreateEntryResponse(
            results=[
                entry_pb2.BatchCreateEntryResponse.Result(
                    status=item_status(result.error),
                    entry=entry_to_wire(result.value, mask) if result.value is not None else None,
                )
                for result in results
            ]
        )
        _audit_entries(message.entries, results)
        await stream.send_message(reply)

    async def BatchUpdateEntry(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[entry_pb2.BatchUpdateEntryRequest, entry_pb2.BatchUpdateEntryResponse]
    ) -> None:
        """Change entries: whole without an input mask, else the fields it names."""
        message = await request_of(stream)
        mask = message.input_mask if message.HasField("input_mask") else None
        decoded = [self._changes(entry, mask) for entry in message.entries]
        outcomes = iter(await self._entries.update([each for each in decoded if isinstance(each, EntryChanges)]))
        results = [next(outcomes) if isinstance(each, EntryChanges) else _refused(each) for each in decoded]
        answer_mask = output_mask(message)
        reply = entry_pb2.BatchUpdateEntryResponse(
            results=[
                entry_pb2.BatchUpdateEntryResponse.Result(
                    status=item_status(result.error),
                    entry=entry_to_wire(result.value, answer_mask) if result.ok and result.value is not None else None,
                )
                for result in results
            ]
        )
        _audit_entries(message.entries, results)
        await stream.send_message(reply)

    async def BatchDeleteEntry(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[entry_pb2.BatchDeleteEntryRequest, entry_pb2.BatchDeleteEntryResponse]
    ) -> None:
        """Delete entries by their ids."""
        message = await request_of(stream)
        ids = list(message.ids)
        results = await self._entries.delete(ids)
        statuses = [item_status(result.error) for result in results]
        request = current_request()
        for entry_id, status in zip(ids, statuses, strict=True):
            request.record_item(status, {"entry_id": entry_id})
        reply = entry_pb2.BatchDeleteEntryResponse(
            results=[
                entry_pb2.BatchDeleteEntryResponse.Result(id=entry_id, status=status)
                for entry_id, status in zip(ids, statuses, strict=True)
            ]
        )
        await stream.send_message(reply)

    async def GetEntry(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[entry_pb2.GetEntryRequest, types_pb2.Entry]
    ) -> None:
        """Send one entry."""
        message = await request_of(stream)
        current_request().note(entry_id=message.id)
        entry = await self._entries.get(message.id)
        await stream.send_message(entry_to_wire(entry, output_mask(message)))

    async def ListEntries(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[entry_pb2.ListEntriesRequest, entry_pb2.ListEntriesResponse]
    ) -> None:
        """Send one page of the entries that pass the filter."""
        message = await request_of(stream)
        wanted = self._filter(message.filter)
        size = max(0, message.page_size)
        page = await self._entries.list(wanted, PageRequest(size, message.page_token if size else ""))
        mask = output_mask(message)
        entries = [entry_to_wire(entry, mask) for entry in page.items]
        await stream.send_message(entry_pb2.ListEntriesResponse(entries=entries, next_page_token=page.next_token))

    async def CountEntries(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[entry_pb2.CountEntriesRequest, entry_pb2.CountEntriesResponse]
    ) -> None:
        """Send how many entries pass the filter."""
        message = await request_of(stream)
        count = await self._entries.count(self._filter(message.filter))
        await stream.send_message(entry_pb2.CountEntriesResponse(count=count))

    async def GetAuthorizedEntries(  # noqa: N802  (the method's name on the wire)
        self,
        stream: grpclib.server.Stream[entry_pb2.GetAuthorizedEntriesRequest, entry_pb2.GetAuthorizedEntriesResponse],
    ) -> None:
        """Send every entry the calling agent may serve, in one message."""
        message = await request_of(stream)
        entries = await self._entries.authorized(current_request().agent)
        mask = output_mask(message)
        reply = entry_pb2.GetAuthorizedEntriesResponse(entries=[entry_to_wire(entry, mask) for entry in entries])
        await stream.send_message(reply)

    async def SyncAuthorizedEntries(  # noqa: N802  (the method's name on the wire)
        self,
        stream: grpclib.server.Stream[entry_pb2.SyncAuthorizedEntriesRequest, entry_pb2.SyncAuthorizedEntriesResponse],
    ) -> None:
        """Send the calling agent what it may serve: all at once when it is little, else revisions and what it asks."""
        request = current_request()
        await sync_authorized_entries(stream, await self._entries.authorized(request.agent), request.admit)

    def _new_entry(self, message: types_pb2.Entry) -> RegistrationEntry | ServiceError:
        try:
            return new_entry_from_wire(message, self._trust_domain)
        except InvalidEntryError as error:
            return InvalidArgument(f"failed to convert entry: {error}")

    def _changes(self, message: types_pb2.Entry, mask: types_pb2.EntryMask | None) -> EntryChanges | ServiceError:
        try:
            return entry_changes_from_wire(message, self._trust_domain, mask)
        except InvalidEntryError as error:
            return InvalidArgument(f"failed to convert entry: {error}")

    def _filter(
        self, message: entry_pb2.ListEntriesRequest.Filter | entry_pb2.CountEntriesRequest.Filter
    ) -> EntryFilter:
        has = message.HasField
        federated = message.by_federates_with
        return EntryFilter(
            hint=message.by_hint.value if has("by_hint") else None,
            parent_id=member_id(message.by_parent_id, self._trust_domain, check_member_id, "malformed parent ID filter")
            if has("by_parent_id")
            else None,
            spiffe_id=member_id(
                message.by_spiffe_id, self._trust_domain, check_workload_id, "malformed SPIFFE ID filter"
            )
            if has("by_spiffe_id")
            else None,
            selectors=selector_match(message.by_selectors, "malformed selectors filter")
            if has("by_selectors")
            else None,
            federates_with=federates_with_match(
                federated.trust_domains, federated.match, "malformed federates with filter"
            )
            if has("by_federates_with")
            else None,
            downstream=message.by_downstream.value if has("by_downstream") else None,
        )


def _refused(error: ServiceError) -> ItemResult[RegistrationEntry]:
    return ItemResult(error=error)


def _audit_entries(entries: Sequence[types_pb2.Entry], results: Sequence[ItemResult[RegistrationEntry]]) -> None:
    request = current_request()
    if not request.trail.enabled:
        return
    for entry, result in zip(entries, results, strict=True):
        fields: dict[str, object] = {
            "admin": entry.admin,
            "dns_name": ",".join(entry.dns_names),
            "downstream": entry.downstream,
            "entry_id": entry.id or (result.value.id if result.value is not None else ""),
            "expires_at": entry.expires_at,
            "federates_with": ",".join(entry.federates_with),
            "hint": entry.hint,
            "jwt_svid_ttl": entry.jwt_svid_ttl,
            "parent_id": f"spiffe://{entry.parent_id.trust_domain}{entry.parent_id.path}",
            "selectors": ",".join(f"{selector.type}:{selector.value}" for selector in entry.selectors),
            "spiffe_id": f"spiffe://{entry.spiffe_id.trust_domain}{entry.spiffe_id.path}",
            "store_svid": entry.store_svid,
            "x509_svid_ttl": entry.x509_svid_ttl,
        }
        request.record_item(item_status(result.error), {name: value for name, value in fields.items() if value != ""})
