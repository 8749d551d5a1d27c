"""What to sign, renew and drop, what to ask the server for in full, and how long to wait: tables."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.entries import AuthorizedEntry, EntryRevision
from authsec_sdk.spire.selectors import Selector
from authsec_sdk.testing import TestCA
from icp_agent.domain.identity_cache import IdentityCache, SignedSVID
from icp_agent.domain.sync_plan import (
    MAXIMUM_PAUSE,
    Use,
    merged_entries,
    next_batch_size,
    next_pause,
    stale_entries,
    sync_plan,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CA = TestCA("example.org", clock=lambda: NOW, ttl=timedelta(days=30))


def entry(id_: str, **fields) -> AuthorizedEntry:
    return AuthorizedEntry(
        id=id_,
        spiffe_id=SpiffeID.parse(f"spiffe://example.org/{id_}"),
        selectors=(Selector("unix", f"uid:{id_}"),),
        **fields,
    )


def cache_with(*entries: AuthorizedEntry, svids: dict[str, timedelta] | None = None) -> IdentityCache:
    """Entries, and SVIDs that began now and end after the given time."""
    cache = IdentityCache().with_entries(entries)
    known = {e.id: e for e in entries}
    return cache.with_svids(
        {
            id_: SignedSVID(CA.svid(known[id_].spiffe_id, not_before=NOW, ttl=ttl), known[id_].revision)
            for id_, ttl in (svids or {}).items()
        }
    )


def ids(entries) -> list[str]:
    return [entry.id for entry in entries]


HOUR = timedelta(hours=1)


class TestSigning:
    def test_every_entry_without_an_svid(self):
        plan = sync_plan(cache_with(entry("a"), entry("b"), svids={"b": HOUR}), NOW)
        assert ids(plan.sign) == ["a"]
        assert plan.renew == ()
        assert plan.drop == frozenset()

    def test_an_expired_svid_is_as_good_as_none(self):
        plan = sync_plan(cache_with(entry("a"), svids={"a": HOUR}), NOW + HOUR)
        assert ids(plan.sign) == ["a"]

    def test_entries_for_a_store_are_not_signed_for_workloads(self):
        assert sync_plan(cache_with(entry("a", store_svid=True)), NOW).to_sign == ()

    def test_an_entry_which_asks_not_to_be_prefetched_waits_for_a_workload(self):
        cache = cache_with(entry("a", disable_x509_svid_prefetch=True))
        assert sync_plan(cache, NOW).to_sign == ()
        assert ids(sync_plan(cache, NOW, use=Use(frozenset({"a"}))).sign) == ["a"]

    def test_what_is_missing_comes_before_what_is_old(self):
        plan = sync_plan(cache_with(entry("a"), entry("b"), svids={"a": HOUR}), NOW + HOUR * 0.6)
        assert ids(plan.to_sign) == ["b", "a"]


class TestRenewal:
    @pytest.mark.parametrize(
        ("elapsed", "jitter", "due"),
        [
            (0.44, 1.0, False),
            (0.46, 1.0, True),
            (0.49, 0.0, False),
            (0.5, 0.0, True),
            (0.54, -1.0, False),
            (0.56, -1.0, True),
        ],
    )
    def test_at_half_life_give_or_take_a_tenth(self, elapsed, jitter, due):
        plan = sync_plan(cache_with(entry("a"), svids={"a": HOUR}), NOW + HOUR * elapsed, jitter=lambda: jitter)
        assert ids(plan.renew) == (["a"] if due else [])

    def test_each_svid_draws_its_own_jitter(self):
        draws = iter([1.0, -1.0])
        cache = cache_with(entry("a"), entry("b"), svids={"a": HOUR, "b": HOUR})
        assert ids(sync_plan(cache, NOW + HOUR / 2, jitter=lambda: next(draws)).renew) == ["a"]

    def test_the_availability_target_renews_earlier(self):
        cache = cache_with(entry("a"), svids={"a": timedelta(days=4)})
        moment = NOW + timedelta(days=1, hours=1)
        assert sync_plan(cache, moment).renew == ()
        assert ids(sync_plan(cache, moment, availability_target=timedelta(days=3)).renew) == ["a"]

    @pytest.mark.parametrize("changed", [{"revision_number": 2}, {"created_at": 5}])
    def test_a_changed_entry_is_signed_anew(self, changed):
        cache = cache_with(entry("a"), svids={"a": HOUR}).with_entries([entry("a", **changed)])
        assert ids(sync_plan(cache, NOW).renew) == ["a"]


class TestLimit:
    entries = tuple(entry(id_) for id_ in "abcde")

    def test_no_more_than_the_limit_is_prefetched(self):
        assert ids(sync_plan(cache_with(*self.entries), NOW, limit=2).sign) == ["a", "b"]

    def test_what_is_in_use_is_signed_whatever_the_limit(self):
        plan = sync_plan(cache_with(*self.entries), NOW, limit=1, use=Use(frozenset("cde")))
        assert sorted(ids(plan.sign)) == ["c", "d", "e"]

    def test_the_least_recently_used_is_dropped(self):
        cache = cache_with(*self.entries, svids=dict.fromkeys("abc", HOUR))
        plan = sync_plan(cache, NOW, limit=2, use=Use(last={"b": 2.0, "c": 1.0}))
        assert plan.drop == {"a"}
        assert plan.sign == ()

    def test_what_is_in_use_is_never_dropped(self):
        cache = cache_with(*self.entries, svids=dict.fromkeys("abc", HOUR))
        plan = sync_plan(cache, NOW, limit=1, use=Use(frozenset("ab")))
        assert plan.drop == {"c"}

    def test_signed_and_unsigned_do_not_push_each_other_out(self):
        cache = cache_with(*self.entries, svids={"d": HOUR, "e": HOUR})
        plan = sync_plan(cache, NOW, limit=2)
        assert plan.to_sign == ()
        assert plan.drop == frozenset()


class TestPaging:
    def test_asks_for_what_is_missing_or_stale(self):
        known = {"a": entry("a", revision_number=1), "b": entry("b", created_at=5), "c": entry("c")}
        revisions = [
            EntryRevision("d", 0, 0),
            EntryRevision("c", 0, 0),
            EntryRevision("b", 0, 6),
            EntryRevision("a", 2, 0),
        ]
        assert stale_entries(known, revisions) == ["a", "b", "d"]

    def test_an_id_told_twice_is_asked_for_once(self):
        assert stale_entries({}, [EntryRevision("a", 0, 0), EntryRevision("a", 0, 0)]) == ["a"]

    def test_merges_kept_and_fetched_and_drops_the_rest(self):
        known = {"a": entry("a"), "gone": entry("gone"), "stale": entry("stale", revision_number=1)}
        revisions = [EntryRevision("a", 0, 0), EntryRevision("stale", 2, 0), EntryRevision("vanished", 0, 0)]
        fetched = [entry("stale", revision_number=2)]
        assert merged_entries(known, revisions, fetched) == [entry("a"), entry("stale", revision_number=2)]

    def test_a_stale_entry_that_was_not_sent_is_left_out(self):
        known = {"a": entry("a", revision_number=1)}
        assert merged_entries(known, [EntryRevision("a", 2, 0)], []) == []


class TestPace:
    @pytest.mark.parametrize(("failures", "seconds"), [(0, 5), (1, 7.5), (2, 11.25), (12, 240), (1000, 240)])
    def test_grows_by_half_up_to_48_intervals(self, failures, seconds):
        assert next_pause(timedelta(seconds=5), failures, 0.0).total_seconds() == pytest.approx(seconds, rel=0.01)

    def test_never_more_than_eight_minutes(self):
        assert next_pause(timedelta(minutes=1), 1000, 0.0) == MAXIMUM_PAUSE

    def test_never_less_than_the_interval(self):
        assert next_pause(timedelta(minutes=20), 3, 0.0) == timedelta(minutes=20)

    @given(st.floats(-1, 1), st.integers(0, 100))
    def test_jitter_is_a_tenth_at_most(self, jitter, failures):
        plain = next_pause(timedelta(seconds=5), failures, 0.0)
        assert abs(next_pause(timedelta(seconds=5), failures, jitter) - plain) <= plain / 10 + timedelta(microseconds=1)

    def test_batches_halve_and_double(self):
        assert next_batch_size(500, failed=True) == 250
        assert next_batch_size(1, failed=True) == 1
        assert next_batch_size(250, failed=False) == 500
        assert next_batch_size(500, failed=False) == 500


class TestTaint:
    def test_what_a_tainted_authority_signed_is_renewed_at_once(self):
        cache = cache_with(entry("a"), entry("b"), svids={"a": HOUR})
        by_tainted = SignedSVID(CA.svid("/b", not_before=NOW, ttl=HOUR), cache.entries["b"].revision, b"tainted")
        cache = cache.with_svids({"b": by_tainted})
        assert ids(sync_plan(cache, NOW).renew) == []
        assert ids(sync_plan(cache.with_tainted(frozenset({b"tainted"})), NOW).renew) == ["b"]
        assert ids(sync_plan(cache.with_tainted(frozenset({b"another"})), NOW).renew) == []
