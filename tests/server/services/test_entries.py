"""The Entry API's use cases: upstream's words, and an agent's share that is never behind."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.entries import EntryChanges, RegistrationEntry
from authsec_sdk.spire.selectors import Selector
from icp_server.domain.agent import Agent
from icp_server.domain.errors import AlreadyExists, Internal, InvalidArgument, NotFound, ServiceError
from icp_server.domain.filters import EntryFilter, FederatesWithMatch, SelectorMatch
from icp_server.domain.results import ItemResult, PageRequest
from icp_server.services.entries import EntryService, Rights

pytestmark = pytest.mark.anyio
NewEntry = Callable[..., RegistrationEntry]
AGENT = Agent(SpiffeID.parse("spiffe://example.org/agent"), "join_token", "1", 2**40)


@pytest.fixture
def entries(server: Any) -> EntryService:
    service: EntryService = server.entries
    return service


def said(result: ItemResult[Any]) -> tuple[type[ServiceError], str]:
    assert result.error is not None
    return type(result.error), result.error.message


async def ids(entries: EntryService, agent: Agent = AGENT) -> list[str]:
    return [entry.id for entry in await entries.authorized(agent)]


async def test_a_new_entry_gets_an_id_and_a_sorted_reply(entries: EntryService, new_entry: NewEntry) -> None:
    [result] = await entries.create([new_entry(selectors="b:2 a:1", dns_names=("b.test", "a.test"))])
    assert result.ok
    assert result.value is not None
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", result.value.id)
    assert result.value.dns_names == ("a.test", "b.test")
    assert result.value.selectors == (Selector("a", "1"), Selector("b", "2"))
    assert result.value.created_at > 0
    kept = await entries.get(result.value.id)
    assert kept.dns_names == ("b.test", "a.test")  # their order decides the common name


async def test_items_of_a_batch_each_have_their_words(entries: EntryService, new_entry: NewEntry) -> None:
    await entries.create([new_entry(id="first")])
    results = await entries.create(
        [
            new_entry(id="second"),
            new_entry("spire/agent/x"),
            new_entry("good", id="good"),
            new_entry("a", selectors=""),
            new_entry("a", dns_names=("a b",)),
            new_entry("a", hint="x" * 1025),
            new_entry("a", id="x" * 256),
            new_entry("a", id="a/b"),
            new_entry("a", x509_svid_ttl=-1),
            new_entry("a", federates_with=(TrustDomain("no.org"),)),
            new_entry("elsewhere", id="first"),
            new_entry("a", dns_names=("a.test", "a.test")),
        ]
    )
    assert said(results[0]) == (AlreadyExists, "similar entry already exists")
    assert results[0].value is not None
    assert results[0].value.id == "first"
    assert said(results[1])[0] is InvalidArgument
    assert said(results[1])[1].startswith("failed to convert entry: invalid spiffe ID:")
    assert results[2].ok
    for place in (3, 4, 5):
        assert said(results[place])[0] is InvalidArgument
        assert said(results[place])[1].startswith("failed to convert entry: ")
    for place in (6, 7, 8):
        assert said(results[place])[0] is InvalidArgument
        assert said(results[place])[1].startswith("failed to create entry: datastore-validation: ")
    assert said(results[9]) == (Internal, 'failed to create entry: unable to find federated bundle "spiffe://no.org"')
    assert said(results[10]) == (AlreadyExists, "similar entry already exists")
    assert said(results[11]) == (AlreadyExists, 'failed to create entry: DNS name "a.test" is listed twice')
    assert results[11].value is None
    assert await entries.count(EntryFilter()) == 2


async def test_an_id_of_another_trust_domain_or_without_a_path_is_refused(
    entries: EntryService, new_entry: NewEntry
) -> None:
    """What has no path must never become a leaf."""
    for wrong in ("spiffe://other.org/a", "spiffe://example.org"):
        for field in ("spiffe_id", "parent_id"):
            fields = {"spiffe_id": new_entry().spiffe_id, "parent_id": new_entry().parent_id}
            fields[field] = SpiffeID.parse(wrong)
            [result] = await entries.create([RegistrationEntry(selectors=(Selector("a", "b"),), **fields)])
            assert said(result)[0] is InvalidArgument


async def test_updates_have_upstreams_words(entries: EntryService, new_entry: NewEntry) -> None:
    await entries.create([new_entry(id="a", dns_names=("a.test",))])
    results = await entries.update(
        [
            EntryChanges(id="a", hint="new", dns_names=("b.test", "a.test")),
            EntryChanges(id="missing"),
            EntryChanges(id=""),
            EntryChanges(id="a", spiffe_id=SpiffeID.parse("spiffe://example.org/spire/server")),
            EntryChanges(id="a", x509_svid_ttl=-1),
            EntryChanges(id="a", federates_with=(TrustDomain("no.org"),)),
            EntryChanges(id="a", dns_names=("a.test", "a.test")),
        ]
    )
    assert results[0].value is not None
    assert results[0].value.dns_names == ("a.test", "b.test")
    assert results[0].value.revision_number == 1
    assert said(results[1]) == (NotFound, "failed to update entry")
    assert said(results[2]) == (NotFound, "failed to update entry")
    assert said(results[3])[1].startswith("failed to convert entry: invalid spiffe ID:")
    assert said(results[4])[1].startswith("failed to update entry: datastore-validation:")
    assert said(results[5]) == (Internal, 'failed to update entry: unable to find federated bundle "spiffe://no.org"')
    assert said(results[6]) == (AlreadyExists, 'failed to update entry: DNS name "a.test" is listed twice')
    assert (await entries.get("a")).revision_number == 1


BORROWED = "unix:path:/usr/bin/web unix:sha256:00"


async def test_an_entry_that_any_process_can_borrow_is_warned_of(
    entries: EntryService, new_entry: NewEntry, caplog: pytest.LogCaptureFixture
) -> None:
    """Threat 1: path and digest are those of whatever the caller runs by the time it is looked at."""
    weak, strong = new_entry(id="weak", selectors=BORROWED), new_entry(id="strong", selectors=f"{BORROWED} unix:uid:1")
    assert all(result.ok for result in await entries.create([weak, strong]))
    (record,) = (record for record in caplog.records if record.levelname == "WARNING")
    assert "can be borrowed" in record.getMessage()
    assert "entry_id=weak spiffe_id=spiffe://example.org/workload" in record.getMessage()
    caplog.clear()
    assert (await entries.update([EntryChanges(id="strong", selectors=weak.selectors)]))[0].ok
    assert "entry_id=strong" in caplog.text


async def test_where_strong_selectors_are_required_borrowable_ones_are_refused(
    store: Any, clock: Any, new_entry: NewEntry
) -> None:
    """Threat 1, closed by the operator: no such entry comes to be, neither new nor by a change."""
    entries = EntryService(store, clock, require_strong_selectors=True)
    results = await entries.create(
        [new_entry("a", id="weak", selectors=BORROWED), new_entry("b", id="strong", selectors=f"{BORROWED} unix:uid:1")]
    )
    assert said(results[0])[0] is InvalidArgument
    assert said(results[0])[1].startswith("failed to create entry: require_strong_selectors is on: unix:path and")
    assert results[1].ok
    weak = tuple(Selector.parse(text) for text in BORROWED.split())
    [result] = await entries.update([EntryChanges(id="strong", selectors=weak)])
    assert said(result)[1].startswith("failed to update entry: require_strong_selectors is on")
    assert len((await entries.get("strong")).selectors) == 3
    assert await entries.count(EntryFilter()) == 1


async def test_deletions_have_upstreams_words(entries: EntryService, new_entry: NewEntry) -> None:
    await entries.create([new_entry(id="a")])
    results = await entries.delete(["", "a", "a"])
    assert said(results[0]) == (InvalidArgument, "missing entry ID")
    assert results[1].ok
    assert said(results[2]) == (NotFound, "entry not found")
    assert [result.value for result in results] == ["", "a", "a"]


async def test_reading_has_upstreams_words(entries: EntryService) -> None:
    with pytest.raises(InvalidArgument, match="missing ID"):
        await entries.get("")
    with pytest.raises(NotFound, match="entry not found"):
        await entries.get("a")
    empty_selectors = EntryFilter(selectors=SelectorMatch(frozenset()))
    empty_federation = EntryFilter(federates_with=FederatesWithMatch(frozenset()))
    for ask in (lambda f: entries.list(f, PageRequest()), entries.count):
        with pytest.raises(InvalidArgument, match="empty selector set"):
            await ask(empty_selectors)
        with pytest.raises(InvalidArgument, match="empty trust domain set"):
            await ask(empty_federation)
    with pytest.raises(Internal, match="failed to list entries: could not parse token"):
        await entries.list(EntryFilter(), PageRequest(1, "junk"))


async def test_an_agents_share_follows_every_change(entries: EntryService, new_entry: NewEntry, server: Any) -> None:
    assert await ids(entries) == []
    await entries.create(
        [new_entry("a", id="a"), new_entry("b", id="b", parent="a"), new_entry("x", id="x", parent="y")]
    )
    assert await ids(entries) == ["a", "b"]
    await entries.update([EntryChanges(id="x", parent_id=AGENT.id)])
    assert await ids(entries) == ["a", "b", "x"]
    await entries.delete(["a"])
    assert await ids(entries) == ["x"]
    await server.agents.create_join_token(60, "text", SpiffeID.parse("spiffe://example.org/node"))
    joined = Agent(SpiffeID.parse("spiffe://example.org/spire/agent/join_token/text"), "join_token", "1", 2**40)
    assert [entry.spiffe_id.path for entry in await entries.authorized(joined)] == ["/node"]


async def test_an_agents_share_follows_its_selectors(entries: EntryService, new_entry: NewEntry) -> None:
    await entries.create([new_entry("node", id="n", parent="spire/server", selectors="dc:zone:1")])
    assert await ids(entries) == []
    in_zone = Agent(AGENT.id, "x509pop", "1", 2**40, selectors=(Selector("dc", "zone:1"),))
    assert await ids(entries, in_zone) == ["n"]
    assert await ids(entries) == []


async def test_an_entry_leaves_the_share_when_it_expires(
    entries: EntryService, new_entry: NewEntry, clock: Any
) -> None:
    end = int((clock() + timedelta(seconds=30)).timestamp())
    await entries.create([new_entry("a", id="a", expires_at=end), new_entry("b", id="b")])
    assert await ids(entries) == ["a", "b"]
    clock.forward(seconds=29)
    assert await ids(entries) == ["a", "b"]
    clock.forward(seconds=1)
    assert await ids(entries) == ["b"]


async def test_the_share_is_one_snapshot_among_writers(entries: EntryService, new_entry: NewEntry) -> None:
    """A batch is written as one; nobody sees half of it."""
    done = False

    async def write() -> None:
        nonlocal done
        for n in range(10):
            await entries.create([new_entry(f"w{n}/{k}", id=f"{n}-{k}") for k in range(5)])
        done = True

    async def read() -> None:
        while not done:
            assert len(await entries.authorized(AGENT)) % 5 == 0
            await asyncio.sleep(0)  # between changes the answer costs no wait, and the writer wants its turn

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        for _ in range(4):
            group.create_task(read())
    assert len(await entries.authorized(AGENT)) == 50


async def test_another_service_over_the_same_store_is_as_fresh(
    entries: EntryService, server: Any, new_entry: NewEntry, clock: Any
) -> None:
    other = EntryService(server.store, clock)
    assert await ids(other) == []
    await entries.create([new_entry(id="a")])
    assert await ids(other) == ["a"]


async def test_rights_need_an_entry_and_a_certificate_issued_for_it(
    entries: EntryService, server: Any, new_entry: NewEntry, requester: Any, clock: Any
) -> None:
    """An administrator's ID minted elsewhere (a downstream CA, a stolen root) gives no rights."""
    boss = SpiffeID.parse("spiffe://example.org/boss")
    issued = await server.svids.mint_x509(requester.csr(uris=(str(boss),)), 0)
    await entries.create([new_entry("boss", id="a", admin=True)])
    assert await entries.rights(boss, issued.fingerprint) == Rights()  # issued before the entry gave rights
    issued = await server.svids.mint_x509(requester.csr(uris=(str(boss),)), 0)
    assert await entries.rights(boss, issued.fingerprint) == Rights(admin=True)
    assert await entries.rights(boss, "4711") == Rights()
    assert await entries.rights(SpiffeID.parse("spiffe://example.org/other"), issued.fingerprint) == Rights()
    await entries.update([EntryChanges(id="a", admin=False, downstream=True)])
    assert await entries.rights(boss, issued.fingerprint) == Rights(downstream=True)
    await entries.update([EntryChanges(id="a", admin=True, expires_at=int(clock().timestamp()))])
    assert await entries.rights(boss, issued.fingerprint) == Rights()
    await entries.delete(["a"])
    assert await entries.rights(boss, issued.fingerprint) == Rights()
