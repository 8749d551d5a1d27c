"""An agent's share of the entries, beside the definition written out plainly."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.entries import RegistrationEntry
from authsec_sdk.spire.selectors import Selector
from icp_server.domain.authorized_entries import EntryIndex

TD = TrustDomain("example.org")
SERVER = "/spire/server"
AGENT = SpiffeID.from_path(TD, "/spire/agent/join_token/one")
NewEntry = Callable[..., RegistrationEntry]


def ids(entries: Iterable[RegistrationEntry]) -> list[str]:
    return [entry.id for entry in entries]


def entry(
    entry_id: str, path: str, parent: str, selectors: str = "unix:uid:0", expires_at: int = 0
) -> RegistrationEntry:
    return RegistrationEntry(
        id=entry_id,
        spiffe_id=SpiffeID.from_path(TD, path),
        parent_id=SpiffeID.from_path(TD, parent),
        selectors=tuple(Selector.parse(text) for text in selectors.split()),
        expires_at=expires_at,
    )


def test_own_entries_and_those_below_them_sorted_by_id() -> None:
    index = EntryIndex(
        TD,
        [
            entry("c", "/web", AGENT.path),
            entry("b", "/web/child", "/web"),
            entry("a", "/web/child/grandchild", "/web/child"),
            entry("x", "/other", "/spire/agent/join_token/two"),
        ],
    )
    assert ids(index.authorized(AGENT, [], 0)) == ["a", "b", "c"]


def test_an_agent_without_entries_gets_none() -> None:
    index = EntryIndex(TD, [entry("x", "/other", "/spire/agent/join_token/two")])
    assert index.authorized(AGENT, [Selector("a", "b")], 0) == ()


def test_node_aliases_need_all_their_selectors() -> None:
    index = EntryIndex(
        TD,
        [
            entry("alias", "/node", SERVER, "k8s:cluster:a k8s:zone:1"),
            entry("below", "/web", "/node"),
        ],
    )
    cluster, zone = Selector("k8s", "cluster:a"), Selector("k8s", "zone:1")
    assert ids(index.authorized(AGENT, [cluster, zone, Selector("x", "y")], 0)) == ["alias", "below"]
    assert index.authorized(AGENT, [cluster], 0) == ()
    assert index.authorized(AGENT, [zone], 0) == ()
    assert index.authorized(AGENT, [], 0) == ()


def test_an_alias_without_selectors_is_nobodys() -> None:
    index = EntryIndex(TD, [entry("alias", "/node", SERVER, "")])
    assert index.authorized(AGENT, [Selector("a", "b")], 0) == ()


def test_cycles_end() -> None:
    index = EntryIndex(
        TD,
        [entry("a", "/a", AGENT.path), entry("b", "/b", "/a"), entry("c", "/a", "/b"), entry("d", AGENT.path, "/b")],
    )
    assert ids(index.authorized(AGENT, [], 0)) == ["a", "b", "c", "d"]


def test_an_expired_entry_is_gone_and_so_is_what_only_it_leads_to() -> None:
    index = EntryIndex(
        TD,
        [
            entry("a", "/a", AGENT.path, expires_at=100),
            entry("b", "/b", "/a"),
            entry("n", "/node", SERVER, "k8s:a:b", expires_at=100),
            entry("o", "/o", "/node"),
        ],
    )
    node = [Selector("k8s", "a:b")]
    assert ids(index.authorized(AGENT, node, 99)) == ["a", "b", "n", "o"]
    assert index.authorized(AGENT, node, 100) == ()


def test_put_replaces_and_remove_forgets_everywhere() -> None:
    index = EntryIndex(TD, [entry("a", "/a", AGENT.path)])
    index.put(entry("a", "/b", SERVER, "k8s:a:b"))
    assert index.authorized(AGENT, [], 0) == ()
    assert ids(index.authorized(AGENT, [Selector("k8s", "a:b")], 0)) == ["a"]
    assert ids(index.with_spiffe_id(SpiffeID.from_path(TD, "/b"))) == ["a"]
    assert index.with_spiffe_id(SpiffeID.from_path(TD, "/a")) == ()
    index.remove("a")
    index.remove("a")
    assert len(index) == 0
    assert index.get("a") is None
    assert index.authorized(AGENT, [Selector("k8s", "a:b")], 0) == ()


PATHS = st.sampled_from(["/a", "/b", "/c", "/d", AGENT.path])
SELECTORS = st.lists(st.sampled_from(["k:1", "k:2", "k:3"]), min_size=1, max_size=3, unique=True).map(" ".join)
ENTRIES = st.lists(
    st.builds(
        entry,
        st.integers(0, 12).map(str),
        PATHS,
        st.one_of(PATHS, st.just(SERVER)),
        SELECTORS,
        st.sampled_from([0, 50, 150]),
    ),
    max_size=25,
)


def plainly(entries: dict[str, RegistrationEntry], node: frozenset[Selector], now: float) -> set[str]:
    """The definition: a fixed point over all entries."""
    live = [known for known in entries.values() if not known.expired(now)]
    found: set[str] = set()
    parents = {AGENT}
    while True:
        more = {
            known.id
            for known in live
            if known.parent_id in parents
            or (known.parent_id.path == SERVER and known.selectors and node.issuperset(known.selectors))
        }
        if more == found:
            return found
        found = more
        parents = {AGENT} | {entries[entry_id].spiffe_id for entry_id in found}


@given(
    written=ENTRIES,
    removed=st.lists(st.integers(0, 12).map(str), max_size=4),
    node=SELECTORS.map(lambda text: frozenset(map(Selector.parse, text.split()))),
)
def test_the_index_agrees_with_the_definition(
    written: list[RegistrationEntry], removed: list[str], node: frozenset[Selector]
) -> None:
    index, plain = EntryIndex(TD), dict[str, RegistrationEntry]()
    for each in written:
        index.put(each)
        plain[each.id] = each
    for entry_id in removed:
        index.remove(entry_id)
        plain.pop(entry_id, None)
    found = index.authorized(AGENT, node, 100)
    assert set(ids(found)) == plainly(plain, node, 100)
    assert ids(found) == sorted(ids(found))
