"""What an agent may serve, over real sockets: whole when it is little, else revisions first and entries on request."""

from typing import Any

import anyio.lowlevel
import pytest

from authsec_sdk.proto.spire import agent_grpc, agent_pb2, entry_grpc, entry_pb2, types_pb2
from authsec_sdk.rpc import Channel, GRPCError, Server, Status, error_details
from authsec_sdk.spire.wire import AUTHORIZED_ENTRY_MASK
from icp_server.grpc_api.entry_sync import PAGE_SIZE, sync_authorized_entries

pytestmark = pytest.mark.anyio

Request = entry_pb2.SyncAuthorizedEntriesRequest


async def _create(live: Any, count: int) -> None:
    entries = [
        types_pb2.Entry(
            id=f"e{number:05}",
            spiffe_id=types_pb2.SPIFFEID(trust_domain="example.org", path=f"/w{number}"),
            parent_id=types_pb2.SPIFFEID(trust_domain="example.org", path="/node"),
            selectors=[types_pb2.Selector(type="unix", value="uid:1")],
        )
        for number in range(count)
    ]
    await entry_grpc.EntryStub(live.admin).BatchCreateEntry(entry_pb2.BatchCreateEntryRequest(entries=entries))


async def _sync(stub: entry_grpc.EntryStub, *requests: Request) -> list[list[Any]]:
    """Send requests one after the other; return the answers to each, up to the one without `more`."""
    answers: list[list[Any]] = []
    async with stub.SyncAuthorizedEntries.open(timeout=30) as stream:
        for request in requests:
            await stream.send_message(request)
            pages: list[Any] = []
            while not pages or pages[-1].more:
                page = await stream.recv_message()
                assert page is not None
                pages.append(page)
            answers.append(pages)
        await stream.end()
        assert await stream.recv_message() is None  # and the call ends well
    return answers


async def test_few_entries_come_whole_and_masked(live: Any) -> None:
    stub = entry_grpc.EntryStub(await live.caller(await live.attest()))
    await _create(live, 2)
    ((page,),) = await _sync(stub, Request(output_mask=AUTHORIZED_ENTRY_MASK))
    paths = {entry.spiffe_id.path for entry in page.entries}
    assert paths == {"/node", "/w0", "/w1"}
    assert not page.entry_revisions
    assert not page.more
    assert not any(entry.HasField("parent_id") for entry in page.entries)
    ((page,),) = await _sync(stub, Request())
    assert all(entry.HasField("parent_id") for entry in page.entries)


async def test_no_entries_are_one_empty_answer(live: Any) -> None:
    stub = entry_grpc.EntryStub(await live.caller(await live.attest(await live.token())))
    ((page,),) = await _sync(stub, Request(output_mask=AUTHORIZED_ENTRY_MASK))
    assert page == entry_pb2.SyncAuthorizedEntriesResponse()


async def test_many_entries_come_as_revisions_and_then_by_their_ids(live: Any) -> None:
    stub = entry_grpc.EntryStub(await live.caller(await live.attest()))
    await _create(live, PAGE_SIZE + 3)
    wanted = [f"e{number:05}" for number in range(PAGE_SIZE + 1)]
    revisions, all_of_them, some, none = await _sync(
        stub,
        Request(output_mask=AUTHORIZED_ENTRY_MASK),
        Request(ids=reversed(wanted)),
        Request(ids=["e00001", "unknown", "e00000", "e00001"], output_mask=types_pb2.EntryMask()),
        Request(ids=["unknown"]),
    )
    assert [len(page.entry_revisions) for page in revisions] == [PAGE_SIZE, 4]  # the node's own entry is one of them
    assert not any(page.entries for page in revisions)
    first = revisions[0].entry_revisions[0]
    assert first.created_at > 0
    assert [len(page.entries) for page in all_of_them] == [PAGE_SIZE, 1]
    assert [entry.id for page in all_of_them for entry in page.entries] == wanted
    assert [entry.id for entry in some[0].entries] == ["e00000", "e00001"]
    assert all(entry.HasField("spiffe_id") for entry in some[0].entries)  # the first mask holds
    assert none == [entry_pb2.SyncAuthorizedEntriesResponse()]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request(ids=["e1"]), "specifying IDs on initial request is not supported"),
        (Request(output_mask=types_pb2.EntryMask(spiffe_id=True)), "revision number cannot be masked"),
    ],
)
async def test_a_bad_beginning_is_refused(live: Any, request_: Request, words: str) -> None:
    stub = entry_grpc.EntryStub(await live.caller(await live.attest()))
    with pytest.raises(GRPCError) as caught:
        await _sync(stub, request_)
    assert (caught.value.status, caught.value.message) == (Status.INVALID_ARGUMENT, words)


async def test_an_agent_may_leave_in_the_middle(live: Any) -> None:
    stub = entry_grpc.EntryStub(await live.caller(await live.attest()))
    await _create(live, PAGE_SIZE + 3)
    async with stub.SyncAuthorizedEntries.open(timeout=30) as stream:
        await stream.send_message(Request(output_mask=AUTHORIZED_ENTRY_MASK))
        assert await stream.recv_message() is not None
        await stream.cancel()
    ((page, _),) = await _sync(stub, Request(output_mask=AUTHORIZED_ENTRY_MASK))
    assert page.more


async def test_a_ban_counts_in_the_middle_of_a_synchronization(live: Any) -> None:
    svid = await live.attest()
    stub = entry_grpc.EntryStub(await live.caller(svid))
    await _create(live, PAGE_SIZE + 3)
    async with stub.SyncAuthorizedEntries.open(timeout=30) as stream:
        await stream.send_message(Request(output_mask=AUTHORIZED_ENTRY_MASK))
        for _ in range(2):
            assert await stream.recv_message() is not None
        agent_id = types_pb2.SPIFFEID(trust_domain="example.org", path=svid.id.path)
        await agent_grpc.AgentStub(live.admin).BanAgent(agent_pb2.BanAgentRequest(id=agent_id))
        await stream.send_message(Request(ids=["e00000"]), end=True)
        with pytest.raises(GRPCError) as caught:
            await stream.recv_message()
    details = error_details(caught.value, types_pb2.PermissionDeniedDetails)
    assert details is not None
    assert details.reason == types_pb2.PermissionDeniedDetails.AGENT_BANNED


async def test_an_agent_gets_its_own_entries_and_no_others(live: Any) -> None:
    stub = entry_grpc.EntryStub(await live.caller(await live.attest(await live.token(node="/elsewhere"))))
    await _create(live, 2)
    answer = await stub.GetAuthorizedEntries(entry_pb2.GetAuthorizedEntriesRequest())
    assert {entry.spiffe_id.path for entry in answer.entries} == {"/elsewhere"}
    bare = await stub.GetAuthorizedEntries(entry_pb2.GetAuthorizedEntriesRequest(output_mask=types_pb2.EntryMask()))
    assert [entry for entry in bare.entries if entry.HasField("spiffe_id")] == []


async def test_page_boundaries(new_entry: Any, tmp_path: Any) -> None:
    """The last page may be full: then nothing follows it."""
    entries = [new_entry(f"w{number}", id=f"e{number}") for number in range(4)]

    class Two(entry_grpc.EntryBase):
        async def SyncAuthorizedEntries(self, stream: Any) -> None:
            await sync_authorized_entries(stream, entries, anyio.lowlevel.checkpoint, page_size=2)

    async with Server([Two()]) as server:
        await server.listen_unix(tmp_path / "s")
        async with Channel.unix(str(tmp_path / "s")) as channel:
            revisions, pages = await _sync(
                entry_grpc.EntryStub(channel), Request(), Request(ids=["e0", "e1", "e2", "e3"])
            )
    assert [(len(page.entry_revisions), page.more) for page in revisions] == [(2, True), (2, False)]
    assert [(len(page.entries), page.more) for page in pages] == [(2, True), (2, False)]
