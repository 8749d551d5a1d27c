"""`icp-server entry create`, `update` and `delete`: one entry by flags, or many by a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from authsec_sdk.proto.spire import entry_grpc, entry_pb2, types_pb2
from authsec_sdk.rpc import Channel, GRPCError
from authsec_sdk.spire.selectors import BORROWABLE, only_borrowable
from authsec_sdk.spire.wire import selectors_from_wire
from icp_server.cli.api import TIMEOUT, APICommand, CommandError, rpc_error
from icp_server.cli.entry_data import read_entries, read_ids
from icp_server.cli.entry_flags import EntryFlags
from icp_server.cli.output import Console, quote
from icp_server.cli.records import entry_lines
from icp_server.grpc_api.errors import status_name

_DATA = "Path to a file containing registration JSON (optional). If set to '-', read the JSON from stdin."
_LARGEST_BATCH = 1024 * 1024
"""Bytes of one request, comfortably below what a server takes; more entries go in several."""

_Result = entry_pb2.BatchCreateEntryResponse.Result | entry_pb2.BatchUpdateEntryResponse.Result


def create(arguments: Sequence[str]) -> int:
    """Create entries and print them; exit 1 if one failed (but not with JSON, which says so itself)."""
    command = APICommand(
        "entry create",
        summary="Creates registration entries: which workloads get which SPIFFE ID from which agent.",
        examples=(
            "-spiffeID spiffe://example.org/web -parentID spiffe://example.org/node -selector unix:uid:1000",
            "-node -spiffeID spiffe://example.org/rack1 -selector x509pop:subject:cn:rack1",
            "-data entries.json",
        ),
    )
    described = EntryFlags(command.flags, updates=False)
    data = command.flags.string("data", _DATA)

    async def talk(channel: Channel, console: Console) -> None:
        entries = read_entries(data.value) if data.value else [described.entry()]
        stub = entry_grpc.EntryStub(channel)
        answer = entry_pb2.BatchCreateEntryResponse()
        for batch in _batches(entries):
            part = await stub.BatchCreateEntry(entry_pb2.BatchCreateEntryRequest(entries=batch), timeout=TIMEOUT)
            answer.results.extend(part.results)
        _fill_in_failed(answer.results, entries)
        _warn_of_borrowable(console, answer.results)
        if console.wants_json:
            console.json(answer)
        else:
            _print_results(console, answer.results, "create")

    return command.run(arguments, talk)


def update(arguments: Sequence[str]) -> int:
    """Replace entries, found by their ids, and print them; exit 1 if one failed (but not with JSON)."""
    command = APICommand(
        "entry update",
        summary="Updates registration entries: what is not given is reset, but for the two additional attributes.",
        examples=(
            (
                "-entryID 6c0e… -spiffeID spiffe://example.org/web -parentID spiffe://example.org/node "
                "-selector unix:uid:1001"
            ),
            "-data entries.json",
        ),
    )
    described = EntryFlags(command.flags, updates=True)
    data = command.flags.string("data", _DATA)

    async def talk(channel: Channel, console: Console) -> None:
        entries = read_entries(data.value) if data.value else [described.entry()]
        stub = entry_grpc.EntryStub(channel)
        if not data.value and described.names_attributes:
            described.keep_other_attributes(entries[0], await _existing(stub, entries[0].id))
        answer = entry_pb2.BatchUpdateEntryResponse()
        for batch in _batches(entries):
            part = await stub.BatchUpdateEntry(entry_pb2.BatchUpdateEntryRequest(entries=batch), timeout=TIMEOUT)
            answer.results.extend(part.results)
        _fill_in_failed(answer.results, entries)
        _warn_of_borrowable(console, answer.results)
        if console.wants_json:
            console.json(answer)
        else:
            _print_results(console, answer.results, "update")

    return command.run(arguments, talk)


def delete(arguments: Sequence[str]) -> int:
    """Delete entries by their ids; exit 1 if one failed (but not with JSON)."""
    command = APICommand(
        "entry delete",
        summary="Deletes registration entries.",
        examples=("-entryID 6c0e…", "-file ids.json"),
    )
    entry_id = command.flags.string("entryID", "The Registration Entry ID of the record to delete.")
    file = command.flags.string(
        "file",
        "Path to a file containing a JSON structure for batch deletion (optional). If set to '-', read from stdin.",
    )

    async def talk(channel: Channel, console: Console) -> None:
        if not file.value and not entry_id.value:
            raise CommandError("an entry ID is required")
        ids = read_ids(file.value) if file.value else [entry_id.value]
        answer = await entry_grpc.EntryStub(channel).BatchDeleteEntry(
            entry_pb2.BatchDeleteEntryRequest(ids=ids), timeout=TIMEOUT
        )
        if console.wants_json:
            console.json(answer)
        else:
            _print_deleted(console, answer)

    return command.run(arguments, talk)


async def _existing(stub: entry_grpc.EntryStub, entry_id: str) -> types_pb2.Entry:
    try:
        return await stub.GetEntry(entry_pb2.GetEntryRequest(id=entry_id), timeout=TIMEOUT)
    except GRPCError as error:
        raise CommandError(
            f"failed to fetch existing entry to merge additional attributes: {rpc_error(error)}"
        ) from error


def _batches(entries: Sequence[types_pb2.Entry]) -> Iterator[list[types_pb2.Entry]]:
    batch: list[types_pb2.Entry] = []
    size = 0
    for entry in entries:
        if batch and size + entry.ByteSize() > _LARGEST_BATCH:
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry.ByteSize()
    if batch:
        yield batch


def _fill_in_failed(results: Sequence[_Result], entries: Sequence[types_pb2.Entry]) -> None:
    """Show beside each failure what was asked for: the server's answer need not have it."""
    for result, entry in zip(results, entries, strict=True):
        if result.status.code:
            result.entry.CopyFrom(entry)


def _warn_of_borrowable(console: Console, results: Sequence[_Result]) -> None:
    """Tell whoever made an entry what it is worth; on standard error, so that no script reads it as an answer."""
    for result in results:
        if not result.status.code and only_borrowable(selectors_from_wire(result.entry.selectors)):
            console.err(f"Warning: entry {result.entry.id}: {BORROWABLE}")


def _print_results(console: Console, results: Sequence[_Result], verb: str) -> None:
    failed = [result for result in results if result.status.code]
    for result in results:
        if not result.status.code:
            console.record(entry_lines(result.entry))
    for result in failed:
        code, message = status_name(result.status.code), quote(result.status.message)
        console.err(f"Failed to {verb} the following entry (code: {code}, msg: {message}):")
        console.record(entry_lines(result.entry), failed=True)
    if failed:
        raise CommandError(f"failed to {verb} one or more entries")


def _print_deleted(console: Console, answer: entry_pb2.BatchDeleteEntryResponse) -> None:
    failed = [result for result in answer.results if result.status.code]
    deleted = [result for result in answer.results if not result.status.code]
    for result in deleted:
        console.out(f"Deleted entry with ID: {result.id}")
    if deleted:
        console.out("\n")
    for result in failed:
        code, message = status_name(result.status.code), quote(result.status.message)
        console.err(f"Failed to delete entry with ID {result.id} (code: {code}, msg: {message})")
    if not failed:
        console.out(f"Deleted {len(deleted)} entries successfully")
        return
    summary = f"Failed to delete {len(failed)} entries"
    if deleted:
        summary = f"Deleted {len(deleted)} entries successfully, but failed to delete {len(failed)} entries"
    console.out(f"\n\n{summary}")
    raise CommandError("failed to delete one or more entries")
