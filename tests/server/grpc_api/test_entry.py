"""The Entry service over real sockets: items succeed and fail each on its own; masks, filters and pages."""

from typing import Any

import pytest

from authsec_sdk.proto.spire import entry_grpc, entry_pb2, types_pb2
from authsec_sdk.rpc import GRPCError, Status

pytestmark = pytest.mark.anyio


def entry(path: str = "/web", **fields: Any) -> types_pb2.Entry:
    values: dict[str, Any] = {
        "spiffe_id": types_pb2.SPIFFEID(trust_domain="example.org", path=path),
        "parent_id": types_pb2.SPIFFEID(trust_domain="example.org", path="/node"),
        "selectors": [types_pb2.Selector(type="unix", value="uid:1")],
    }
    return types_pb2.Entry(**(values | fields))


@pytest.fixture
def stub(live: Any) -> entry_grpc.EntryStub:
    return entry_grpc.EntryStub(live.admin)


async def create(stub: entry_grpc.EntryStub, *entries: types_pb2.Entry) -> list[Any]:
    answer = await stub.BatchCreateEntry(entry_pb2.BatchCreateEntryRequest(entries=entries))
    return list(answer.results)


async def test_items_fail_each_on_its_own_and_in_their_places(stub: entry_grpc.EntryStub) -> None:
    results = await create(
        stub,
        entry("/one"),
        entry("/spire/reserved"),
        entry("/two", selectors=[]),
        entry("/one"),
        types_pb2.Entry(),
        entry("/three", x509_svid_ttl=-1),
        entry("/four", federates_with=["nowhere.org"]),
        entry("/five"),
    )
    assert [result.status.code for result in results] == [0, 3, 3, 6, 3, 3, 13, 0]
    assert [result.status.message for result in results] == [
        "OK",
        (
            'failed to convert entry: invalid spiffe ID: "spiffe://example.org/spire/reserved" is not a workload in '
            'trust domain "example.org"; path is in the reserved namespace'
        ),
        "failed to convert entry: selector list is empty",
        "similar entry already exists",
        "failed to convert entry: invalid parent ID: request must specify SPIFFE ID",
        "failed to create entry: datastore-validation: invalid registration entry: X509SvidTtl is not set",
        'failed to create entry: unable to find federated bundle "spiffe://nowhere.org"',
        "OK",
    ]
    assert results[3].entry.id == results[0].entry.id  # the one that is there
    assert not results[1].HasField("entry")


async def test_an_empty_batch_is_an_empty_answer(stub: entry_grpc.EntryStub) -> None:
    assert await create(stub) == []
    assert not (await stub.BatchUpdateEntry(entry_pb2.BatchUpdateEntryRequest())).results
    assert not (await stub.BatchDeleteEntry(entry_pb2.BatchDeleteEntryRequest())).results


async def test_no_mask_shows_all_and_an_empty_one_the_id_alone(stub: entry_grpc.EntryStub) -> None:
    (made,) = await create(stub, entry(id="e1", dns_names=["b.x", "a.x"], hint="h"))
    assert list(made.entry.dns_names) == ["a.x", "b.x"]  # replies to changes sort; Get keeps the order given
    got = await stub.GetEntry(entry_pb2.GetEntryRequest(id="e1"))
    assert list(got.dns_names) == ["b.x", "a.x"]
    assert got.hint == "h"
    bare = await stub.GetEntry(entry_pb2.GetEntryRequest(id="e1", output_mask=types_pb2.EntryMask()))
    assert bare == types_pb2.Entry(id="e1")
    listed = await stub.ListEntries(entry_pb2.ListEntriesRequest(output_mask=types_pb2.EntryMask(hint=True)))
    assert list(listed.entries) == [types_pb2.Entry(id="e1", hint="h")]


async def test_an_update_changes_what_its_mask_names(stub: entry_grpc.EntryStub) -> None:
    await create(stub, entry(id="e1", hint="before", x509_svid_ttl=60))
    mask = types_pb2.EntryMask(hint=True)
    request = entry_pb2.BatchUpdateEntryRequest(entries=[types_pb2.Entry(id="e1", hint="after")], input_mask=mask)
    (result,) = (await stub.BatchUpdateEntry(request)).results
    assert (result.entry.hint, result.entry.x509_svid_ttl, result.entry.revision_number) == ("after", 60, 1)
    whole = entry_pb2.BatchUpdateEntryRequest(entries=[entry(id="e1")], output_mask=types_pb2.EntryMask(hint=True))
    (result,) = (await stub.BatchUpdateEntry(whole)).results
    assert result.entry == types_pb2.Entry(id="e1")
    assert (await stub.GetEntry(entry_pb2.GetEntryRequest(id="e1"))).x509_svid_ttl == 0


@pytest.mark.parametrize(
    ("changed", "code", "words"),
    [
        (entry(), 5, "failed to update entry"),
        (entry(id="nope"), 5, "failed to update entry"),
        (entry(id="e1", selectors=[]), 3, "failed to convert entry: selector list is empty"),
        (entry(id="e1", jwt_svid_ttl=-1), 3, "JwtSvidTtl is not set"),
    ],
)
async def test_a_bad_update_fails_alone(
    stub: entry_grpc.EntryStub, changed: types_pb2.Entry, code: int, words: str
) -> None:
    await create(stub, entry(id="e1"), entry("/other", id="e2"))
    request = entry_pb2.BatchUpdateEntryRequest(entries=[changed, entry("/other", id="e2", hint="new")])
    bad, good = (await stub.BatchUpdateEntry(request)).results
    assert bad.status.code == code
    assert words in bad.status.message
    assert good.status.code == 0
    assert good.entry.hint == "new"


async def test_deletion_answers_for_each_id(stub: entry_grpc.EntryStub) -> None:
    await create(stub, entry(id="e1"))
    answer = await stub.BatchDeleteEntry(entry_pb2.BatchDeleteEntryRequest(ids=["e1", "", "e1"]))
    assert [(result.id, result.status.code, result.status.message) for result in answer.results] == [
        ("e1", 0, "OK"),
        ("", 3, "missing entry ID"),
        ("e1", 5, "entry not found"),
    ]


@pytest.mark.parametrize(
    ("entry_id", "status", "words"),
    [("", Status.INVALID_ARGUMENT, "missing ID"), ("nope", Status.NOT_FOUND, "entry not found")],
)
async def test_an_entry_that_is_not_there(
    stub: entry_grpc.EntryStub, entry_id: str, status: Status, words: str
) -> None:
    with pytest.raises(GRPCError) as caught:
        await stub.GetEntry(entry_pb2.GetEntryRequest(id=entry_id))
    assert (caught.value.status, caught.value.message) == (status, words)


def _filter(**fields: Any) -> entry_pb2.ListEntriesRequest.Filter:
    filter_ = entry_pb2.ListEntriesRequest.Filter()
    for name, value in fields.items():
        field = getattr(filter_, name)
        if isinstance(value, (str, bool)):
            field.value = value
        else:
            field.CopyFrom(value)
    return filter_


def _id(path: str, trust_domain: str = "example.org") -> types_pb2.SPIFFEID:
    return types_pb2.SPIFFEID(trust_domain=trust_domain, path=path)


@pytest.mark.parametrize(
    ("filter_", "paths"),
    [
        (_filter(), ["/a", "/b", "/c"]),
        (_filter(by_spiffe_id=_id("/b")), ["/b"]),
        (_filter(by_parent_id=_id("/other")), ["/c"]),
        (_filter(by_hint="h"), ["/b"]),
        (_filter(by_hint=""), ["/a", "/b", "/c"]),
        (_filter(by_downstream=True), ["/c"]),
        (_filter(by_downstream=False), ["/a", "/b", "/c"]),
        (_filter(by_hint="h", by_parent_id=_id("/other")), []),
        (
            _filter(
                by_selectors=types_pb2.SelectorMatch(
                    selectors=[types_pb2.Selector(type="unix", value="uid:1")], match=types_pb2.SelectorMatch.MATCH_ANY
                )
            ),
            ["/a", "/b", "/c"],
        ),
        (
            _filter(
                by_selectors=types_pb2.SelectorMatch(
                    selectors=[types_pb2.Selector(type="unix", value="uid:1")],
                    match=types_pb2.SelectorMatch.MATCH_EXACT,
                )
            ),
            ["/a", "/c"],
        ),
    ],
)
async def test_filters_narrow(stub: entry_grpc.EntryStub, filter_: Any, paths: list[str]) -> None:
    two = [types_pb2.Selector(type="unix", value="uid:1"), types_pb2.Selector(type="unix", value="gid:1")]
    results = await create(
        stub, entry("/a"), entry("/b", hint="h", selectors=two), entry("/c", parent_id=_id("/other"), downstream=True)
    )
    assert all(result.status.code == 0 for result in results)
    answer = await stub.ListEntries(entry_pb2.ListEntriesRequest(filter=filter_))
    assert [each.spiffe_id.path for each in answer.entries] == paths
    counted = entry_pb2.CountEntriesRequest.Filter.FromString(filter_.SerializeToString())
    assert (await stub.CountEntries(entry_pb2.CountEntriesRequest(filter=counted))).count == len(paths)


@pytest.mark.parametrize(
    ("filter_", "words"),
    [
        (_filter(by_spiffe_id=_id("/spire/x")), "malformed SPIFFE ID filter: "),
        (_filter(by_spiffe_id=_id("", "")), "malformed SPIFFE ID filter: request must specify SPIFFE ID"),
        (_filter(by_parent_id=_id("/x", "other.org")), "malformed parent ID filter: "),
        (_filter(by_selectors=types_pb2.SelectorMatch()), "malformed selectors filter: empty selector set"),
        (
            _filter(by_selectors=types_pb2.SelectorMatch(selectors=[types_pb2.Selector(type="a:b", value="c")])),
            "malformed selectors filter: selector type contains ':'",
        ),
        (
            _filter(by_federates_with=types_pb2.FederatesWithMatch()),
            "malformed federates with filter: empty trust domain set",
        ),
        (
            _filter(by_federates_with=types_pb2.FederatesWithMatch(trust_domains=["Foo"])),
            "malformed federates with filter: ",
        ),
    ],
)
async def test_malformed_filters_are_refused(stub: entry_grpc.EntryStub, filter_: Any, words: str) -> None:
    with pytest.raises(GRPCError) as caught:
        await stub.ListEntries(entry_pb2.ListEntriesRequest(filter=filter_))
    assert caught.value.status is Status.INVALID_ARGUMENT
    assert (caught.value.message or "").startswith(words)
    counted = entry_pb2.CountEntriesRequest.Filter.FromString(filter_.SerializeToString())
    with pytest.raises(GRPCError) as caught:
        await stub.CountEntries(entry_pb2.CountEntriesRequest(filter=counted))
    assert caught.value.status is Status.INVALID_ARGUMENT


async def test_pages_follow_each_other(stub: entry_grpc.EntryStub) -> None:
    await create(stub, *(entry(f"/w{number}") for number in range(5)))
    seen: list[str] = []
    token = ""
    for _ in range(5):
        page = await stub.ListEntries(entry_pb2.ListEntriesRequest(page_size=2, page_token=token))
        assert len(page.entries) <= 2
        seen += [each.spiffe_id.path for each in page.entries]
        if not (token := page.next_page_token):
            break
    assert seen == [f"/w{number}" for number in range(5)]
    whole = await stub.ListEntries(entry_pb2.ListEntriesRequest(page_size=-3, page_token="ignored without a size"))
    assert len(whole.entries) == 5
    with pytest.raises(GRPCError) as caught:
        await stub.ListEntries(entry_pb2.ListEntriesRequest(page_size=2, page_token="junk"))
    assert caught.value.status is Status.INTERNAL
