"""`icp-server entry show` and `count`."""

from __future__ import annotations

from collections.abc import Sequence

from authsec_sdk.proto.spire import entry_grpc, entry_pb2
from authsec_sdk.rpc import Channel, GRPCError
from icp_server.cli.api import TIMEOUT, APICommand, CommandError, rpc_error
from icp_server.cli.entry_flags import FilterFlags
from icp_server.cli.output import Console, plural
from icp_server.cli.records import entry_lines, sorted_entries

_PAGE_SIZE = 500


def show(arguments: Sequence[str]) -> int:
    """Print the entries chosen, sorted by SPIFFE ID."""
    command = APICommand(
        "entry show",
        summary="Shows registration entries: all, one by its id, or those that match.",
        examples=("", "-spiffeID spiffe://example.org/web", "-selector unix:uid:1000 -matchSelectorsOn exact"),
    )
    entry_id = command.flags.string("entryID", "The Entry ID of the records to show")
    chosen = FilterFlags(command.flags, "show")

    async def talk(channel: Channel, console: Console) -> None:
        if entry_id.value and (chosen.parent_id.value or chosen.spiffe_id.value or chosen.selectors.value):
            raise CommandError("the -entryID flag can't be combined with others")
        stub = entry_grpc.EntryStub(channel)
        answer = await (_one(stub, entry_id.value) if entry_id.value else _matching(stub, chosen))
        entries = sorted_entries(answer.entries)
        if console.wants_json:
            console.json(entry_pb2.ListEntriesResponse(entries=entries))
            return
        count = len(entries)
        console.out(f"Found {count} {plural(count, 'entry', 'entries')}")
        for entry in entries:
            console.record(entry_lines(entry))

    return command.run(arguments, talk)


async def _one(stub: entry_grpc.EntryStub, entry_id: str) -> entry_pb2.ListEntriesResponse:
    try:
        entry = await stub.GetEntry(entry_pb2.GetEntryRequest(id=entry_id), timeout=TIMEOUT)
    except GRPCError as error:
        raise CommandError(f"error fetching entry ID {entry_id}: {rpc_error(error)}") from error
    return entry_pb2.ListEntriesResponse(entries=[entry])


async def _matching(stub: entry_grpc.EntryStub, chosen: FilterFlags) -> entry_pb2.ListEntriesResponse:
    filter_ = entry_pb2.ListEntriesRequest.Filter()
    chosen.fill(filter_)
    answer = entry_pb2.ListEntriesResponse()
    token = ""
    while True:
        request = entry_pb2.ListEntriesRequest(filter=filter_, page_size=_PAGE_SIZE, page_token=token)
        try:
            page = await stub.ListEntries(request, timeout=TIMEOUT)
        except GRPCError as error:
            raise CommandError(f"error fetching entries: {rpc_error(error)}") from error
        answer.entries.extend(page.entries)
        if not (token := page.next_page_token):
            return answer


def count(arguments: Sequence[str]) -> int:
    """Print how many entries match."""
    command = APICommand(
        "entry count", summary="Counts registration entries.", examples=("", "-parentID spiffe://example.org/node")
    )
    chosen = FilterFlags(command.flags, "count")

    async def talk(channel: Channel, console: Console) -> None:
        filter_ = entry_pb2.CountEntriesRequest.Filter()
        chosen.fill(filter_)
        request = entry_pb2.CountEntriesRequest(filter=filter_)
        answer = await entry_grpc.EntryStub(channel).CountEntries(request, timeout=TIMEOUT)
        if console.wants_json:
            console.json(answer)
        else:
            console.out(f"{answer.count} registration {plural(answer.count, 'entry', 'entries')}")

    return command.run(arguments, talk)
