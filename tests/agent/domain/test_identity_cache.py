"""Which workload gets which identities: matching, order, hints, what is worth waiting for, who must be told."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.spiffe import BundleSet, SpiffeID, TrustDomain
from authsec_sdk.spire.entries import AuthorizedEntry
from authsec_sdk.spire.selectors import Selector, matches
from authsec_sdk.testing import TestCA
from icp_agent.domain.identity_cache import IdentityCache, SignedSVID, must_be_told

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CA = TestCA("example.org", clock=lambda: NOW)
PARTNER = TestCA("partner.org", clock=lambda: NOW)
NOTHING: BundleSet = BundleSet.of()


def entry(id_: str, *selectors: str, path: str = "/web", **fields) -> AuthorizedEntry:
    return AuthorizedEntry(
        id=id_,
        spiffe_id=SpiffeID.parse(f"spiffe://example.org{path}"),
        selectors=tuple(Selector.parse(text) for text in selectors or ("unix:uid:1",)),
        **fields,
    )


def workload(*selectors: str) -> frozenset[Selector]:
    return frozenset(Selector.parse(text) for text in selectors)


def signed(entry: AuthorizedEntry, **options) -> SignedSVID:
    return SignedSVID(CA.svid(entry.spiffe_id, **options), entry.revision)


def cache_of(*entries: AuthorizedEntry, sign: bool = True) -> IdentityCache:
    cache = IdentityCache().with_entries(entries).with_bundles(CA.bundle(), NOTHING)
    return cache.with_svids({entry.id: signed(entry) for entry in entries}) if sign else cache


class TestMatching:
    def test_every_selector_of_the_entry_must_be_the_workloads(self):
        cache = cache_of(entry("a", "unix:uid:1"), entry("b", "unix:uid:1", "unix:gid:2"), entry("c", "unix:uid:2"))
        assert [e.id for e in cache.matching(workload("unix:uid:1", "unix:gid:3"))] == ["a"]
        assert [e.id for e in cache.matching(workload("unix:uid:1", "unix:gid:2"))] == ["a", "b"]

    def test_nobody_matches_without_selectors(self):
        assert cache_of(entry("a")).matching(frozenset()) == ()

    def test_an_entry_without_selectors_matches_nobody(self):
        bare = AuthorizedEntry(id="a", spiffe_id=SpiffeID.parse("spiffe://example.org/web"), selectors=())
        assert cache_of(bare).matching(workload("unix:uid:1")) == ()

    def test_svids_for_a_store_are_not_handed_out(self):
        assert cache_of(entry("a", store_svid=True)).matching(workload("unix:uid:1")) == ()

    def test_admin_and_downstream_entries_are_handed_out(self):
        cache = cache_of(entry("a", admin=True), entry("b", downstream=True))
        assert [e.id for e in cache.matching(workload("unix:uid:1"))] == ["a", "b"]

    def test_order_is_by_entry_id_whatever_order_they_came_in(self):
        cache = cache_of(entry("c", path="/1"), entry("a", path="/2"), entry("b", path="/3"))
        assert [e.id for e in cache.matching(workload("unix:uid:1"))] == ["a", "b", "c"]

    @given(
        st.lists(st.frozensets(st.sampled_from("abcdef"), max_size=4), max_size=12),
        st.frozensets(st.sampled_from("abcdef")),
    )
    def test_the_index_finds_what_a_look_at_each_entry_finds(self, entries, caller):
        known = [
            AuthorizedEntry(
                id=f"{number:02}",
                spiffe_id=SpiffeID.parse("spiffe://example.org/web"),
                selectors=tuple(Selector("t", value) for value in values),
            )
            for number, values in enumerate(entries)
        ]
        selectors = frozenset(Selector("t", value) for value in caller)
        expected = [e.id for e in known if matches(e.selectors, selectors)]
        assert [e.id for e in cache_of(*known, sign=False).matching(selectors)] == expected


class TestHints:
    def test_of_one_hint_the_oldest_entry_stays(self):
        cache = cache_of(entry("a", hint="x", created_at=20), entry("b", hint="x", created_at=10))
        assert [e.id for e in cache.matching(workload("unix:uid:1"))] == ["b"]

    def test_of_the_same_age_the_lowest_id_stays(self):
        cache = cache_of(entry("b", hint="x", created_at=10), entry("a", hint="x", created_at=10))
        assert [e.id for e in cache.matching(workload("unix:uid:1"))] == ["a"]

    def test_no_hint_is_no_duplicate(self):
        assert len(cache_of(entry("a"), entry("b")).matching(workload("unix:uid:1"))) == 2

    def test_only_entries_the_workload_matches_take_part(self):
        cache = cache_of(entry("a", "unix:uid:9", hint="x", created_at=1), entry("b", hint="x", created_at=2))
        assert [e.id for e in cache.matching(workload("unix:uid:1"))] == ["b"]


class TestView:
    def test_signed_entries_are_identities(self):
        view = cache_of(entry("a")).view(workload("unix:uid:1"), NOW)
        assert view.registered
        assert view.complete
        assert [str(identity.svid.id) for identity in view.identities] == ["spiffe://example.org/web"]

    def test_nothing_registered(self):
        view = cache_of(entry("a")).view(workload("unix:uid:2"), NOW)
        assert not view.registered
        assert not view.complete

    def test_an_unsigned_entry_is_waited_for(self):
        cache = cache_of(entry("a"), entry("b", path="/b"), sign=False)
        cache = cache.with_svids({"a": signed(entry("a"))})
        view = cache.view(workload("unix:uid:1"), NOW)
        assert view.pending == {"b"}
        assert not view.complete

    def test_an_entry_that_cannot_be_signed_does_not_hold_up_the_others(self):
        cache = cache_of(entry("a"), entry("b", path="/b"), sign=False)
        cache = cache.with_svids({"a": signed(entry("a"))}, failed=["b"])
        view = cache.view(workload("unix:uid:1"), NOW)
        assert view.complete
        assert [identity.entry.id for identity in view.identities] == ["a"]

    def test_failures_alone_are_not_an_identity(self):
        cache = cache_of(entry("a"), sign=False).with_svids({}, failed=["a"])
        view = cache.view(workload("unix:uid:1"), NOW)
        assert view.registered
        assert not view.complete

    def test_signing_at_last_makes_up_for_the_failure(self):
        cache = cache_of(entry("a"), sign=False).with_svids({}, failed=["a"])
        assert cache.with_svids({"a": signed(entry("a"))}).failed == frozenset()

    def test_an_expired_svid_is_not_served(self):
        cache = cache_of(entry("a"), sign=False).with_svids({"a": signed(entry("a"), ttl=timedelta(minutes=1))})
        assert cache.view(workload("unix:uid:1"), NOW).complete
        assert not cache.view(workload("unix:uid:1"), NOW + timedelta(minutes=1)).complete

    def test_an_svid_of_the_entrys_former_id_is_not_served(self):
        before, after = entry("a", revision_number=1), entry("a", path="/other", revision_number=2)
        cache = cache_of(before).with_entries([after])
        assert cache.view(workload("unix:uid:1"), NOW).pending == {"a"}

    def test_an_svid_stays_in_use_while_its_changed_entry_is_signed_anew(self):
        before, after = entry("a", revision_number=1), entry("a", revision_number=2)
        assert cache_of(before).with_entries([after]).view(workload("unix:uid:1"), NOW).complete

    def test_a_removed_entry_takes_its_svid_along(self):
        cache = cache_of(entry("a")).with_entries([])
        assert not cache.view(workload("unix:uid:1"), NOW).registered
        assert dict(cache.svids) == {}

    def test_federated_bundles_are_those_of_the_matched_entries(self):
        partner, other = TrustDomain.parse("partner.org"), TrustDomain.parse("other.org")
        cache = cache_of(entry("a", federates_with=(partner,)), entry("b", "unix:uid:2", federates_with=(other,)))
        cache = cache.with_bundles(CA.bundle(), BundleSet.of(PARTNER.bundle(), TestCA("other.org").bundle()))
        assert list(cache.view(workload("unix:uid:1"), NOW).federated) == [partner]

    def test_a_federated_bundle_the_server_does_not_have_is_left_out(self):
        cache = cache_of(entry("a", federates_with=(TrustDomain.parse("partner.org"),)))
        assert len(cache.view(workload("unix:uid:1"), NOW).federated) == 0

    def test_the_view_ends_when_its_first_svid_does(self):
        first, second = entry("a"), entry("b", path="/b")
        cache = cache_of(first, second, sign=False).with_svids(
            {"a": signed(first, ttl=timedelta(minutes=9)), "b": signed(second, ttl=timedelta(minutes=5))}
        )
        assert cache.view(workload("unix:uid:1"), NOW).expires_at == NOW + timedelta(minutes=5)


class TestMustBeTold:
    caller = workload("unix:uid:1")

    def test_the_first_complete_view(self):
        assert must_be_told(None, cache_of(entry("a")).view(self.caller, NOW))

    def test_never_an_incomplete_one(self):
        assert not must_be_told(None, cache_of(entry("a"), sign=False).view(self.caller, NOW))

    def test_not_the_same_again(self):
        cache = cache_of(entry("a"))
        again = cache.with_entries([entry("a")])
        assert not must_be_told(cache.view(self.caller, NOW), again.view(self.caller, NOW))

    def test_not_what_concerns_others(self):
        cache = cache_of(entry("a"))
        other = entry("b", "unix:uid:2")
        after = cache.with_entries([entry("a"), other]).with_svids({"b": signed(other)})
        assert not must_be_told(cache.view(self.caller, NOW), after.view(self.caller, NOW))

    @pytest.mark.parametrize(
        "change",
        [
            lambda cache: cache.with_svids({"a": signed(entry("a"))}),
            lambda cache: cache.with_entries([entry("a", hint="new")]),
            lambda cache: cache.with_bundles(TestCA("example.org").bundle(), NOTHING),
        ],
        ids=["new svid", "new hint", "new bundle"],
    )
    def test_what_changed(self, change):
        cache = cache_of(entry("a"))
        assert must_be_told(cache.view(self.caller, NOW), change(cache).view(self.caller, NOW))

    def test_a_lost_identity(self):
        cache = cache_of(entry("a"), entry("b", path="/b"))
        after = cache.with_entries([entry("a")])
        assert must_be_told(cache.view(self.caller, NOW), after.view(self.caller, NOW))


def test_snapshots_do_not_change():
    cache = cache_of(entry("a"))
    cache.with_entries([])
    cache.without_svids(["a"])
    assert set(cache.entries) == {"a"}
    assert set(cache.svids) == {"a"}
    with pytest.raises(TypeError):
        cache.svids["a"] = None


def test_svids_for_entries_that_went_meanwhile_are_dropped():
    cache = cache_of(entry("a"), sign=False).with_entries([]).with_svids({"a": signed(entry("a"))}, failed=["a"])
    assert dict(cache.svids) == {}
    assert cache.failed == frozenset()


def test_an_empty_cache_says_that_it_knows_nothing():
    assert not IdentityCache().synced
    assert IdentityCache().with_entries([]).synced


def test_federated_trust_domains():
    partner = TrustDomain.parse("partner.org")
    assert cache_of(entry("a", federates_with=(partner,)), entry("b")).federated_trust_domains() == {partner}
