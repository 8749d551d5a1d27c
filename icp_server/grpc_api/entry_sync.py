"""SyncAuthorizedEntries: what an agent may serve, sent whole when it is little, else as revisions and then on request.

The rules are those of SPIRE's agents, which fail on anything else: the first answer either has every entry, or pages
of revisions (`more` until the last one); after that each message of ids is answered with pages of entries. An agent
takes the size of the first page of revisions for its own page size.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, TypeVar

import grpclib.server

from authsec_sdk.proto.spire import entry_pb2, types_pb2
from authsec_sdk.spire.entries import EntryRevision, RegistrationEntry
from authsec_sdk.spire.wire import entry_to_wire, revision_to_wire
from icp_server.domain.errors import InvalidArgument
from icp_server.grpc_api.decode import output_mask, request_of

PAGE_SIZE: Final = 500

SyncStream = grpclib.server.Stream[entry_pb2.SyncAuthorizedEntriesRequest, entry_pb2.SyncAuthorizedEntriesResponse]

_T = TypeVar("_T")


async def sync_authorized_entries(
    stream: SyncStream,
    entries: Sequence[RegistrationEntry],
    readmit: Callable[[], Awaitable[None]],
    *,
    page_size: int = PAGE_SIZE,
) -> None:
    """Serve one synchronization over one snapshot of the entries; ends when the agent closes or cancels its side.

    `readmit` judges the agent anew before each later answer: a call that goes on must not outlive a ban.

    Raises:
        InvalidArgument: the first request names ids, or its mask leaves out the revision number.
        PermissionDenied: what `readmit` raises.
    """
    first = await request_of(stream)
    if first.ids:
        raise InvalidArgument("specifying IDs on initial request is not supported")
    mask = output_mask(first)
    if mask is not None and not mask.revision_number:
        raise InvalidArgument("revision number cannot be masked")
    if len(entries) <= page_size:
        await stream.send_message(_whole(entries, mask))
        return
    for page, more in _pages(entries, page_size):
        revisions = [
            revision_to_wire(EntryRevision(entry.id, entry.revision_number, entry.created_at)) for entry in page
        ]
        await stream.send_message(entry_pb2.SyncAuthorizedEntriesResponse(entry_revisions=revisions, more=more))
    by_id = {entry.id: entry for entry in entries}
    while (request := await stream.recv_message()) is not None:
        await readmit()
        # A mask in a later request is ignored and unknown ids are skipped: the entry may be gone since. Each id is
        # answered once, so that a long list of one id is not a way to ask for a long answer.
        asked = [by_id[entry_id] for entry_id in sorted(set(request.ids)) if entry_id in by_id]
        for page, more in _pages(asked, page_size):
            await stream.send_message(_whole(page, mask, more=more))


def _whole(
    entries: Sequence[RegistrationEntry], mask: types_pb2.EntryMask | None, *, more: bool = False
) -> entry_pb2.SyncAuthorizedEntriesResponse:
    return entry_pb2.SyncAuthorizedEntriesResponse(entries=[entry_to_wire(entry, mask) for entry in entries], more=more)


def _pages(items: Sequence[_T], size: int) -> Iterator[tuple[Sequence[_T], bool]]:
    """Cut into pages, each with whether another follows; nothing at all is one empty page."""
    for start in range(0, max(1, len(items)), size):
        yield items[start : start + size], start + size < len(items)
