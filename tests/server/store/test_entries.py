"""Registration entries in a real file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.entries import EntryChanges, RegistrationEntry
from authsec_sdk.spire.selectors import Selector
from icp_server.domain.authorized_entries import EntryIndex
from icp_server.domain.errors import AlreadyExists, Internal, InvalidArgument, NotFound
from icp_server.domain.filters import EntryFilter, FederatesWithMatch, Match, SelectorMatch
from icp_server.domain.results import PageRequest
from icp_server.domain.revision import Revision
from icp_server.store.entry_rows import CHUNK
from icp_server.store.handle import SQLStore

pytestmark = pytest.mark.anyio
NewEntry = Callable[..., RegistrationEntry]
TD = TrustDomain("example.org")
ALL = PageRequest()


def accept(_: RegistrationEntry) -> None:
    """Every change is fine."""


def full(new_entry: NewEntry) -> RegistrationEntry:
    return new_entry(
        "full", id="full", selectors="unix:uid:1 k8s:ns:a:b", x509_svid_ttl=60, jwt_svid_ttl=30, admin=True,
        downstream=True, expires_at=2**40, dns_names=("b.test", "a.test"), store_svid=True, hint="höfe",
        disable_x509_svid_prefetch=True, jwt_svid_include_jti=True,
    )  # fmt: skip


async def test_an_entry_comes_back_as_it_was_written(store: SQLStore, new_entry: NewEntry, clock: Any) -> None:
    entry = full(new_entry)
    [result] = await store.entries.create([entry])
    written = replace(entry, created_at=int(clock().timestamp()))
    assert result.value == written == await store.entries.get("full")
    assert await store.entries.get("other") is None


async def test_similar_and_same_ids_are_not_written_twice(store: SQLStore, new_entry: NewEntry) -> None:
    first = new_entry(id="a", selectors="unix:uid:1 unix:gid:2")
    similar = new_entry(id="b", selectors="unix:gid:2 unix:uid:1", hint="other")
    same_id = new_entry("elsewhere", id="a")
    other_parent = new_entry(id="c", parent="elsewhere", selectors="unix:uid:1 unix:gid:2")
    fewer = new_entry(id="d", selectors="unix:uid:1")
    results = await store.entries.create([first, similar, same_id, other_parent, fewer])
    assert [result.ok for result in results] == [True, False, False, True, True]
    for result in results[1:3]:
        assert isinstance(result.error, AlreadyExists)
        assert result.value == results[0].value
    assert await store.entries.count(EntryFilter()) == 3


async def test_selectors_named_twice_are_one(store: SQLStore, new_entry: NewEntry) -> None:
    [result] = await store.entries.create([new_entry(id="a", selectors="unix:uid:1 unix:uid:1")])
    assert result.value is not None
    assert result.value.selectors == (Selector("unix", "uid:1"),)


async def test_federation_needs_a_bundle(store: SQLStore, new_entry: NewEntry) -> None:
    other = TrustDomain("other.org")
    entry = new_entry(id="a", federates_with=(other,))
    [result] = await store.entries.create([entry])
    assert isinstance(result.error, Internal)
    assert "unable to find federated bundle" in result.error.message
    assert await store.entries.get("a") is None


async def test_the_own_trust_domain_is_accepted_there(server: Any, new_entry: NewEntry) -> None:
    [result] = await server.store.entries.create([new_entry(id="a", federates_with=(TD, TD))])
    assert result.ok
    found = await server.store.entries.get("a")
    assert found.federates_with == (TD,)


async def test_updates_change_what_they_name_and_count(store: SQLStore, new_entry: NewEntry, clock: Any) -> None:
    [result] = await store.entries.create([full(new_entry)])
    clock.forward(hours=1)
    assert result.value is not None
    changes = EntryChanges(id="full", selectors=(Selector("a", "b"),), dns_names=(), hint="new", admin=False)
    [updated] = await store.entries.update([changes], accept)
    expected = replace(
        result.value, selectors=(Selector("a", "b"),), dns_names=(), hint="new", admin=False, revision_number=1
    )
    assert updated.value == expected == await store.entries.get("full")
    [again] = await store.entries.update([EntryChanges(id="full")], accept)
    assert again.value == replace(expected, revision_number=2)
    by_selector = EntryFilter(selectors=SelectorMatch(frozenset({Selector("unix", "uid:1")}), Match.ANY))
    assert await store.entries.count(by_selector) == 0


async def test_a_refused_update_changes_nothing(store: SQLStore, new_entry: NewEntry) -> None:
    [result] = await store.entries.create([new_entry(id="a")])

    def refuse(entry: RegistrationEntry) -> None:
        assert entry.hint == "x"
        raise InvalidArgument("no")

    changes = [EntryChanges(id="a", hint="x"), EntryChanges(id="b"), EntryChanges(id="")]
    refused, unknown, empty = await store.entries.update(changes, refuse)
    assert isinstance(refused.error, InvalidArgument)
    assert isinstance(unknown.error, NotFound)
    assert isinstance(empty.error, NotFound)
    [federated] = await store.entries.update(
        [EntryChanges(id="a", federates_with=(TrustDomain("no.org"),), selectors=(Selector("z", "z"),))], accept
    )
    assert isinstance(federated.error, Internal)
    assert await store.entries.get("a") == result.value


async def test_deletion(store: SQLStore, new_entry: NewEntry) -> None:
    await store.entries.create([new_entry(id="a")])
    results = await store.entries.delete(["a", "a", "b"])
    assert [(result.value, type(result.error)) for result in results] == [
        ("a", type(None)), ("a", NotFound), ("b", NotFound)
    ]  # fmt: skip
    assert await store.entries.get("a") is None
    assert (await store.entries.create([new_entry(id="a")]))[0].ok


async def test_pages(store: SQLStore, new_entry: NewEntry) -> None:
    await store.entries.create([new_entry(f"w{n}", id=f"e{n}") for n in range(7)])
    first = await store.entries.list(EntryFilter(), PageRequest(3))
    assert [entry.id for entry in first.items] == ["e0", "e1", "e2"]
    await store.entries.delete(["e2", "e3"])  # the token survives its row
    second = await store.entries.list(EntryFilter(), PageRequest(3, first.next_token))
    assert [entry.id for entry in second.items] == ["e4", "e5", "e6"]
    last = await store.entries.list(EntryFilter(), PageRequest(3, second.next_token))
    assert last.items == ()
    assert last.next_token == ""
    whole = await store.entries.list(EntryFilter(), ALL)
    assert len(whole.items) == 5
    assert whole.next_token == ""


@pytest.mark.parametrize("token", ["x", "-1", "1.5", " 1", "9" * 30, "9223372036854775808", "１"])
async def test_wrong_page_tokens(store: SQLStore, token: str) -> None:
    with pytest.raises(Internal, match="could not parse token"):
        await store.entries.list(EntryFilter(), PageRequest(3, token))


async def test_more_than_one_statement_of_parts(store: SQLStore, new_entry: NewEntry) -> None:
    entries = [new_entry(f"w{n}", id=f"e{n:04}", selectors=f"unix:uid:{n} unix:gid:1") for n in range(CHUNK + 1)]
    assert all(result.ok for result in await store.entries.create(entries))
    found = (await store.entries.list(EntryFilter(), ALL)).items
    assert [entry.id for entry in found] == [entry.id for entry in entries]
    assert all(len(entry.selectors) == 2 for entry in found)


async def test_expired_entries_are_pruned(store: SQLStore, new_entry: NewEntry, clock: Any) -> None:
    soon = int((clock() + timedelta(minutes=1)).timestamp())
    await store.entries.create([new_entry(id="soon", expires_at=soon), new_entry("b", id="never")])
    assert await store.entries.prune_expired(clock()) == 0
    before = store.entries.revision()
    clock.forward(minutes=1)
    assert await store.entries.prune_expired(clock()) == 1
    delta = await store.entries.changes_since(before)
    assert delta.removed == {"soon"}
    assert await store.entries.get("never") is not None


async def test_the_change_log_tells_what_changed(store: SQLStore, new_entry: NewEntry) -> None:
    assert store.entries.revision().position == 0
    await store.entries.create([new_entry("a", id="a"), new_entry("b", id="b"), new_entry("c", id="c")])
    start = await store.entries.changes_since(None)
    assert start.complete
    assert {entry.id for entry in start.changed} == {"a", "b", "c"}
    assert start.revision == store.entries.revision()
    assert start.revision.position == 1
    await store.entries.update([EntryChanges(id="a", hint="x")], accept)
    await store.entries.delete(["b"])
    await store.entries.create([new_entry("d", id="d")])
    await store.entries.delete(["d"])
    delta = await store.entries.changes_since(start.revision)
    assert not delta.complete
    assert [(entry.id, entry.hint) for entry in delta.changed] == [("a", "x")]
    assert delta.removed == {"b", "d"}
    assert delta.revision == store.entries.revision()
    assert delta.revision.position == 5
    now = delta.revision
    for unknown in (replace(now, position=99), Revision("another life of this database", now.position)):
        ahead = await store.entries.changes_since(unknown)
        assert ahead.complete
        assert {entry.id for entry in ahead.changed} == {"a", "c"}


async def test_what_fails_does_not_move_the_position(store: SQLStore, new_entry: NewEntry) -> None:
    await store.entries.create([new_entry(id="a")])
    await store.entries.create([new_entry(id="a")])
    await store.entries.delete(["nothing"])
    await store.entries.update([EntryChanges(id="nothing")], accept)
    assert store.entries.revision().position == 1


async def test_concurrent_similar_entries_are_one(store: SQLStore, new_entry: NewEntry) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(store.entries.create([new_entry(id=f"e{n}")])) for n in range(12)]
    outcomes = [task.result()[0].ok for task in tasks]
    assert outcomes.count(True) == 1
    assert await store.entries.count(EntryFilter()) == 1


async def test_a_follower_of_the_log_never_misses_a_change(store: SQLStore, new_entry: NewEntry) -> None:
    """Writers and a reader at once: whenever the reader has followed to the end, its index is the table."""
    index, done = EntryIndex(TD), False
    revision: Revision | None = None

    async def follow() -> None:
        nonlocal index, revision
        delta = await store.entries.changes_since(revision)
        if delta.complete:
            index = EntryIndex(TD, delta.changed)
        for entry_id in delta.removed:
            index.remove(entry_id)
        for entry in delta.changed:
            index.put(entry)
        revision = delta.revision

    async def write(name: str) -> None:
        for n in range(8):
            await store.entries.create([new_entry(f"{name}/{n}", id=f"{name}{n}")])
            if n % 3 == 0:
                await store.entries.delete([f"{name}{n}"])

    async def reader() -> None:
        while not done:
            await follow()

    reading = asyncio.create_task(reader())
    async with asyncio.TaskGroup() as group:
        for name in "abcd":
            group.create_task(write(name))
    done = True
    await reading
    await follow()
    assert {entry.id for entry in (await store.entries.list(EntryFilter(), ALL)).items} == {entry.id for entry in index}


POOL = [Selector("k", str(n)) for n in range(5)]
SETS = st.frozensets(st.sampled_from(POOL), min_size=1)


def meets(having: frozenset[Any], wanted: frozenset[Any], match: Match) -> bool:
    """The words of the filter's definition."""
    return {
        Match.EXACT: having == wanted,
        Match.SUBSET: bool(having) and having <= wanted,
        Match.SUPERSET: having >= wanted,
        Match.ANY: bool(having & wanted),
    }[match]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=SETS, match=st.sampled_from(Match))
async def test_selector_filters_mean_what_sets_mean(
    many: dict[str, frozenset[Selector]], store: SQLStore, wanted: frozenset[Selector], match: Match
) -> None:
    filter_ = EntryFilter(selectors=SelectorMatch(wanted, match))
    found = {entry.id for entry in (await store.entries.list(filter_, ALL)).items}
    assert found == {entry_id for entry_id, having in many.items() if meets(having, wanted, match)}
    assert await store.entries.count(filter_) == len(found)


@pytest.fixture
async def many(store: SQLStore, new_entry: NewEntry) -> dict[str, frozenset[Selector]]:
    """An entry for every subset of the pool."""
    sets = {
        f"e{bits:02}": frozenset(selector for n, selector in enumerate(POOL) if bits >> n & 1) for bits in range(1, 32)
    }
    await store.entries.create(
        [new_entry(name, id=name, selectors=" ".join(map(str, having))) for name, having in sets.items()]
    )
    return sets


async def test_federation_filters(database: Any, store: SQLStore, server: Any, new_entry: NewEntry) -> None:
    await server.store.entries.create([new_entry("a", id="a", federates_with=(TD,)), new_entry("b", id="b")])

    async def ids(*names: str, match: Match) -> set[str]:
        wanted = FederatesWithMatch(frozenset(map(TrustDomain, names)), match)
        return {entry.id for entry in (await store.entries.list(EntryFilter(federates_with=wanted), ALL)).items}

    for match in Match:
        assert await ids("example.org", match=match) == {"a"}
        assert await ids("other.org", match=match) == set()
    assert await ids("example.org", "other.org", match=Match.ANY) == {"a"}
    assert await ids("example.org", "other.org", match=Match.SUBSET) == {"a"}
    assert await ids("example.org", "other.org", match=Match.EXACT) == set()
    assert await ids("example.org", "other.org", match=Match.SUPERSET) == set()


async def test_other_filters_and_their_conjunction(store: SQLStore, new_entry: NewEntry) -> None:
    await store.entries.create(
        [
            new_entry("a", id="a", hint="one"),
            new_entry("a", id="b", parent="other", downstream=True),
            new_entry("b", id="c", hint="one", downstream=True),
        ]
    )

    async def ids(**fields: Any) -> str:
        filter_ = EntryFilter(**fields)
        found = [entry.id for entry in (await store.entries.list(filter_, ALL)).items]
        assert await store.entries.count(filter_) == len(found)
        return "".join(found)

    a = SpiffeID.parse("spiffe://example.org/a")
    assert await ids(spiffe_id=a) == "ab"
    assert await ids(parent_id=SpiffeID.parse("spiffe://example.org/other")) == "b"
    assert await ids(hint="one") == "ac"
    assert await ids(hint="") == "abc"
    assert await ids(downstream=True) == "bc"
    assert await ids(downstream=False) == "abc"
    assert await ids(spiffe_id=a, downstream=True) == "b"
    assert await ids(hint="one", downstream=True) == "c"
    assert await ids(hint="two") == ""


async def test_a_filters_set_is_bounded(store: SQLStore) -> None:
    huge = frozenset(Selector("k", str(n)) for n in range(1_001))
    for match in (Match.ANY, Match.SUBSET, Match.SUPERSET):
        with pytest.raises(InvalidArgument, match="at most 1000"):
            await store.entries.list(EntryFilter(selectors=SelectorMatch(huge, match)), ALL)
