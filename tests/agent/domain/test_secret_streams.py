"""The two protocols as decisions: what is due, what a nonce means, and what a proxy has in the end."""

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authsec_sdk.spiffe import BundleSet
from authsec_sdk.spire.entries import AuthorizedEntry
from authsec_sdk.testing import TestCA
from icp_agent.domain.identity_cache import Identity, WorkloadView
from icp_agent.domain.secret_streams import (
    MAXIMUM_NAMES,
    DeltaRequest,
    DeltaStream,
    TooManyNamesError,
    UnknownSecretsError,
    WholeRequest,
    WholeStream,
    version_of,
)
from icp_agent.domain.secrets import AllBundlesError, SecretSettings, TrustSecret, Wish, select

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CA = TestCA("example.org", clock=lambda: NOW)
PARTNER = TestCA("partner.org", clock=lambda: NOW)
WEB = "spiffe://example.org/web"
DB = "spiffe://example.org/db"
SVIDS = {(path, n): CA.svid(path) for path in ("/web", "/db") for n in range(3)}
BUNDLES = {0: CA.bundle()}
CA.rotate()
BUNDLES[1] = CA.bundle()


def view(web: int | None = 0, db: int | None = None, bundle: int = 0, *, partner: bool = False) -> WorkloadView:
    svids = [SVIDS[path, n] for path, n in (("/web", web), ("/db", db)) if n is not None]
    entries = [AuthorizedEntry(id=svid.id.path, spiffe_id=svid.id, selectors=()) for svid in svids]
    identities = tuple(Identity(entry, svid) for entry, svid in zip(entries, svids, strict=True))
    federated = BundleSet.of(PARTNER.bundle()) if partner else BundleSet.of()
    return WorkloadView(identities, frozenset(), frozenset(), BUNDLES[bundle], federated)


def nonces():
    return map("n{}".format, itertools.count(1)).__next__


def whole(options: SecretSettings | None = None) -> WholeStream:
    return WholeStream(options or SecretSettings(), nonces())


def delta() -> DeltaStream:
    return DeltaStream(SecretSettings(), nonces())


def names(update) -> list[str]:
    return [secret.name for secret in update.secrets]


class TestWhole:
    def test_nothing_is_due_before_both_have_spoken(self):
        asked, told = whole(), whole()
        asked.take(WholeRequest(names=("default",)))
        told.updated(view())
        assert asked.due() is None
        assert told.due() is None
        asked.updated(view())
        update = asked.due()
        assert (update.version, update.nonce, names(update)) == ("1", "n1", ["default"])

    def test_an_acknowledgement_asks_for_nothing(self):
        stream = self.told("default")
        stream.take(WholeRequest(nonce="n1", names=("default",)))
        assert stream.due() is None

    def test_a_refusal_is_not_answered_by_the_same_again(self):
        stream = self.told("default")
        stream.take(WholeRequest(nonce="n1", names=("default",), refused="no"))
        assert stream.due() is None
        stream.updated(view(web=1))
        assert (stream.due().version, stream.due()) == ("2", None)

    def test_other_names_are_answered_at_once_with_the_same_version(self):
        stream = self.told("default")
        stream.take(WholeRequest(nonce="n1", names=("default", "ROOTCA")))
        update = stream.due()
        assert (update.version, update.nonce, sorted(names(update))) == ("1", "n2", ["ROOTCA", "default"])

    @pytest.mark.parametrize("nonce", ["", "n0", "n2", "n11"])
    def test_a_stale_nonce_is_ignored_whatever_it_asks_for(self, nonce):
        stream = self.told("default")
        stream.take(WholeRequest(nonce=nonce, names=("nonsense",), apart=False))
        assert stream.due() is None
        stream.updated(view(web=1))
        assert names(stream.due()) == ["default"]

    def test_the_first_request_may_have_any_nonce(self):
        """It is that of an earlier stream."""
        stream = whole()
        stream.take(WholeRequest(nonce="old", names=("default",)))
        stream.updated(view())
        assert stream.due() is not None

    def test_an_update_that_does_not_concern_it_is_not_sent(self):
        stream = self.told("ROOTCA")
        stream.updated(view(web=1))
        assert stream.due() is None
        stream.updated(view(web=1, bundle=1))
        assert stream.due().version == "3"

    def test_unknown_names_are_refused_in_upstreams_words(self):
        stream = whole()
        stream.take(WholeRequest(names=("b", 'a"', "default")))
        stream.updated(view())
        with pytest.raises(UnknownSecretsError) as caught:
            stream.due()
        assert str(caught.value) == r'workload is not authorized for the requested identities ["a\"" "b"]'

    def test_a_name_that_ceases_to_be_the_callers_ends_it(self):
        stream = self.told(WEB)
        stream.updated(view(web=None))
        with pytest.raises(UnknownSecretsError):
            stream.due()

    def test_no_names_are_everything_and_empty_ones_are_none(self):
        stream = self.told("")
        stream.take(WholeRequest(nonce="n1"))
        assert stream.due() is None, "asked for the same"

    def test_the_type_is_echoed(self):
        stream = whole()
        stream.take(WholeRequest(type_url="anything"))
        stream.updated(view())
        assert stream.due().type_url == "anything"

    def test_who_the_proxy_is_counts_until_it_says_otherwise(self):
        stream = whole()
        stream.take(WholeRequest(names=("ROOTCA",), apart=False))
        stream.updated(view())
        assert not stream.due().secrets[0].apart
        stream.take(WholeRequest(nonce="n1", names=("ROOTCA", "default")))
        stream.updated(view())
        assert not next(secret for secret in stream.due().secrets if isinstance(secret, TrustSecret)).apart
        stream.take(WholeRequest(nonce="n2", names=("ALL",)))
        with pytest.raises(AllBundlesError):
            stream.due()
        stream.take(WholeRequest(nonce="n2", names=("ALL",), apart=True))
        assert stream.due().secrets[0].apart

    @pytest.mark.parametrize("apart", [None, True])
    def test_an_operator_may_switch_the_validator_off(self, apart):
        stream = whole(SecretSettings(disable_spiffe_cert_validation=True))
        stream.take(WholeRequest(names=("ROOTCA",), apart=apart))
        stream.updated(view())
        assert not stream.due().secrets[0].apart

    def test_a_view_for_bundles_is_not_looked_at_for_certificates(self):
        """It is not kept fresh for them."""
        stream = self.told("ROOTCA")
        assert not stream.wants_certificates
        stream.take(WholeRequest(nonce="n1", names=("ROOTCA", "default")))
        assert stream.wants_certificates
        assert stream.due() is None
        stream.updated(view(web=1))
        assert sorted(names(stream.due())) == ["ROOTCA", "default"]

    def test_too_many_names(self):
        with pytest.raises(TooManyNamesError):
            whole().take(WholeRequest(names=tuple(map(str, range(MAXIMUM_NAMES + 1)))))

    @staticmethod
    def told(*wanted: str) -> WholeStream:
        stream = whole()
        stream.take(WholeRequest(names=wanted))
        stream.updated(view())
        assert stream.due().nonce == "n1"
        return stream


class TestDelta:
    def test_only_what_changed_is_sent(self):
        stream = self.told("default", "ROOTCA")
        stream.updated(view(web=1))
        update = stream.due()
        assert names(update) == ["default"]
        assert (update.version, update.nonce, update.removed) == ("2", "n2", ())
        assert len(update.versions) == 1

    def test_what_the_proxy_brings_along_is_not_sent_again(self):
        known = dict(zip(names(first := self.first("default", "ROOTCA")), first.versions, strict=True))
        stream = delta()
        stream.take(DeltaRequest(subscribe=("default", "ROOTCA"), known=known))
        stream.updated(view())
        assert stream.due() is None
        stream.updated(view(bundle=1))
        assert names(stream.due()) == ["ROOTCA"]

    def test_what_it_brings_along_and_is_over_is_removed(self):
        stream = delta()
        stream.take(DeltaRequest(subscribe=(DB, WEB), known={DB: "x", "unwanted": "y"}))
        stream.updated(view())
        update = stream.due()
        assert (names(update), update.removed) == ([WEB], (DB,))

    def test_subscribing_again_is_answered_again(self):
        stream = self.told("default")
        stream.take(DeltaRequest(subscribe=("default",)))
        assert names(stream.due()) == ["default"]

    def test_unsubscribed_names_are_told_no_more(self):
        stream = self.told("default", "ROOTCA")
        stream.take(DeltaRequest(unsubscribe=("default",)))
        assert stream.due() is None
        stream.updated(view(web=1))
        assert stream.due() is None

    def test_what_is_over_is_removed_and_comes_back(self):
        stream = self.told(WEB, "ROOTCA")
        stream.updated(view(web=None))
        update = stream.due()
        assert (names(update), update.removed) == ([], (WEB,))
        assert stream.due() is None
        stream.updated(view(web=None, bundle=1))
        assert names(stream.due()) == ["ROOTCA"], "the rest goes on"
        stream.updated(view(web=1, bundle=1))
        assert names(stream.due()) == [WEB]

    def test_unknown_names_are_refused(self):
        stream = self.told("default")
        stream.take(DeltaRequest(subscribe=("other",)))
        with pytest.raises(UnknownSecretsError, match=r'\["other"\]'):
            stream.due()

    def test_a_removed_name_asked_for_again_is_refused(self):
        stream = self.told(WEB)
        stream.updated(view(web=None))
        stream.due()
        stream.take(DeltaRequest(subscribe=(WEB,)))
        with pytest.raises(UnknownSecretsError):
            stream.due()

    @pytest.mark.parametrize("subscribe", [(), ("*",)])
    def test_everything(self, subscribe):
        stream = delta()
        stream.take(DeltaRequest(subscribe=subscribe))
        stream.updated(view())
        assert sorted(names(stream.due())) == ["spiffe://example.org", WEB]
        stream.updated(view(db=0, partner=True))
        assert sorted(names(stream.due())) == [DB, "spiffe://partner.org"]
        stream.updated(view())
        assert stream.due().removed == (DB, "spiffe://partner.org")
        stream.take(DeltaRequest(unsubscribe=("*",)))
        stream.updated(view(web=1))
        assert stream.due() is None

    def test_an_acknowledgement_and_a_refusal_ask_for_nothing(self):
        stream = self.told("default")
        for request in (DeltaRequest(nonce="n1"), DeltaRequest(nonce="n1", refused="no"), DeltaRequest(nonce="n0")):
            stream.take(request)
            assert stream.due() is None

    def test_too_many_names_added_bit_by_bit(self):
        stream = delta()
        for n in range(MAXIMUM_NAMES):
            stream.take(DeltaRequest(subscribe=(str(n),)))
        with pytest.raises(TooManyNamesError):
            stream.take(DeltaRequest(subscribe=("more",)))
        with pytest.raises(TooManyNamesError):
            delta().take(DeltaRequest(known={str(n): "" for n in range(MAXIMUM_NAMES + 1)}))

    @staticmethod
    def first(*wanted: str):
        stream = delta()
        stream.take(DeltaRequest(subscribe=wanted))
        stream.updated(view())
        return stream.due()

    @staticmethod
    def told(*wanted: str) -> DeltaStream:
        stream = delta()
        stream.take(DeltaRequest(subscribe=wanted))
        stream.updated(view())
        assert stream.due() is not None
        return stream


VIEWS = st.builds(
    view, st.none() | st.integers(0, 2), st.none() | st.integers(0, 2), st.integers(0, 1), partner=st.booleans()
)
NAMES = st.sampled_from(["default", "ROOTCA", "ALL", WEB, DB, "spiffe://partner.org", "spiffe://example.org", "*"])
STEPS = st.lists(VIEWS | st.tuples(st.frozensets(NAMES, max_size=3), st.frozensets(NAMES, max_size=2)), max_size=12)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_a_proxy_that_applies_all_changes_has_what_it_asked_for(steps):
    """Whatever happens in which order: what it holds is what there is of what it wants."""
    stream, holds = delta(), {}
    stream.take(DeltaRequest(subscribe=("ROOTCA",)))
    now, wanted, everything = None, {"ROOTCA"}, False
    for step in steps:
        if isinstance(step, WorkloadView):
            now = step
        else:
            subscribe, unsubscribe = step[0] - step[1], step[1]
            stream.take(DeltaRequest(subscribe=tuple(subscribe), unsubscribe=tuple(unsubscribe)))
            wanted = (wanted | subscribe) - unsubscribe - {"*"}
            everything = (everything or "*" in subscribe) and "*" not in unsubscribe
        if now is None:
            continue
        stream.updated(now)
        try:
            update = stream.due()
        except UnknownSecretsError:
            return  # the stream is over
        if update is not None:
            holds.update({secret.name: secret for secret in update.secrets})
            for name in update.removed:
                del holds[name]
        there = {s.name: s for s in select(now, Wish(frozenset(wanted), everything), SecretSettings().names).secrets}
        mine = {name: secret for name, secret in holds.items() if name in wanted or (everything and name in there)}
        assert mine == there


def test_versions_tell_contents_apart_and_are_the_same_everywhere():
    first, again, other = TestDelta.first("default"), TestDelta.first("default"), TestDelta.first("ROOTCA")
    assert first.versions == again.versions != other.versions
    plain, apart = (TrustSecret("x", (BUNDLES[0],), apart) for apart in (False, True))
    assert version_of(plain) != version_of(apart) != version_of(TrustSecret("x", (BUNDLES[1],), True))
    assert version_of(TrustSecret("x", (BUNDLES[0], PARTNER.bundle()), True)) != version_of(apart)
