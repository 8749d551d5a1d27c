"""Names of secrets: what each stands for, whose it is, and what is left when nothing matches."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.spiffe import BundleSet, SpiffeID, X509Bundle
from authsec_sdk.spire.entries import AuthorizedEntry
from authsec_sdk.testing import TestCA
from icp_agent.domain.identity_cache import Identity, WorkloadView
from icp_agent.domain.secrets import (
    AllBundlesError,
    CertificateSecret,
    SecretNames,
    TrustSecret,
    Wish,
    select,
    wants_certificates,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CA = TestCA("example.org", clock=lambda: NOW)
AAA, PARTNER = TestCA("aaa.org", clock=lambda: NOW), TestCA("partner.org", clock=lambda: NOW)
NAMES = SecretNames()
WEB, DB = CA.svid("/web"), CA.svid("/db")
EXAMPLE = "spiffe://example.org"


OWN, OTHERS = CA.bundle(), (PARTNER.bundle(), AAA.bundle())


def view(*svids, bundle: X509Bundle | None = OWN, federated=OTHERS) -> WorkloadView:
    entries = [AuthorizedEntry(id=f"{n:02}", spiffe_id=svid.id, selectors=()) for n, svid in enumerate(svids)]
    identities = tuple(Identity(entry, svid) for entry, svid in zip(entries, svids, strict=True))
    return WorkloadView(identities, frozenset(), frozenset(), bundle, BundleSet.of(*federated))


def chosen(view_: WorkloadView, *names: str, apart: bool = True, settings: SecretNames = NAMES):
    return select(view_, Wish(frozenset(names), everything=not names, apart=apart), settings)


def trusts(*bundles: X509Bundle, name: str, apart: bool = True) -> TrustSecret:
    return TrustSecret(name, bundles, apart)


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("default", CertificateSecret("default", WEB)),
        (f"{EXAMPLE}/web", CertificateSecret(f"{EXAMPLE}/web", WEB)),
        (f"{EXAMPLE}/db", CertificateSecret(f"{EXAMPLE}/db", DB)),
        ("ROOTCA", trusts(CA.bundle(), name="ROOTCA")),
        (EXAMPLE, trusts(CA.bundle(), name=EXAMPLE)),
        ("spiffe://partner.org", trusts(PARTNER.bundle(), name="spiffe://partner.org")),
        ("ALL", trusts(AAA.bundle(), CA.bundle(), PARTNER.bundle(), name="ALL")),
    ],
)
def test_each_name_alone(name, secret):
    selection = chosen(view(WEB, DB), name)
    assert selection.secrets == (secret,)
    assert not selection.unmatched


def test_several_names_of_one_secret():
    names = ("default", f"{EXAMPLE}/web", "ROOTCA", EXAMPLE)
    assert {secret.name for secret in chosen(view(WEB), *names).secrets} == set(names)


def test_everything_is_each_once_by_its_id():
    found = [secret.name for secret in chosen(view(WEB, DB)).secrets]
    assert sorted(found) == sorted(
        [EXAMPLE, "spiffe://aaa.org", "spiffe://partner.org", f"{EXAMPLE}/web", f"{EXAMPLE}/db"]
    )


def test_of_one_id_the_first_identity_counts():
    again = CA.svid("/web")
    (secret,) = chosen(view(WEB, again), f"{EXAMPLE}/web").secrets
    assert secret == CertificateSecret(f"{EXAMPLE}/web", WEB)
    assert [s.name for s in chosen(view(WEB, again, federated=())).secrets] == [EXAMPLE, f"{EXAMPLE}/web"]


@pytest.mark.parametrize(
    "name", ["other", f"{EXAMPLE}/other", "spiffe://third.org", "rootca", "DEFAULT", "*", f"{EXAMPLE}/"]
)
def test_what_matches_nothing_is_told(name):
    selection = chosen(view(WEB), name, "ROOTCA")
    assert selection.unmatched == {name}
    assert [secret.name for secret in selection.secrets] == ["ROOTCA"]


def test_without_an_identity_there_are_bundles_and_no_certificate():
    nobody = view(federated=())
    assert chosen(nobody, "default", "ROOTCA", "ALL").unmatched == {"default"}
    assert [secret.name for secret in chosen(nobody).secrets] == [EXAMPLE]


def test_renamed_secrets_have_their_new_names_alone():
    names = SecretNames("svid", "root", "every")
    for name in ("svid", "root", "every"):
        assert [s.name for s in chosen(view(WEB), name, settings=names).secrets] == [name]
    assert chosen(view(WEB), "default", "ROOTCA", "ALL", settings=names).unmatched == {"default", "ROOTCA", "ALL"}


def test_a_bundle_without_authorities_is_left_out():
    empty = X509Bundle(PARTNER.trust_domain)
    lacking = view(WEB, federated=(empty,))
    assert chosen(lacking, "ALL").secrets == (trusts(CA.bundle(), name="ALL"),)
    assert chosen(lacking, "spiffe://partner.org").unmatched == {"spiffe://partner.org"}


class TestWithoutAValidator:
    """Authorities of several domains in one file would vouch for each other's IDs."""

    def test_all_bundles_under_one_name_are_refused(self):
        with pytest.raises(AllBundlesError, match="SPIFFE validator"):
            chosen(view(WEB), "ALL", apart=False)

    def test_everything_does_not_mean_all_bundles_under_one_name(self):
        assert all(len(s.bundles) == 1 for s in chosen(view(WEB), apart=False).secrets if isinstance(s, TrustSecret))

    def test_single_ones_are_plain(self):
        assert chosen(view(WEB), "ROOTCA", apart=False).secrets == (trusts(CA.bundle(), name="ROOTCA", apart=False),)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("ROOTCA",), False),
        (("ALL", "ROOTCA", EXAMPLE, "spiffe://partner.org"), False),
        (("default",), True),
        ((f"{EXAMPLE}/web",), True),
        (("ROOTCA", "default"), True),
        (("example.org",), True),  # a name that means nothing, and no trust domain's ID
    ],
)
def test_what_is_worth_waiting_for(names, wanted):
    assert wants_certificates(Wish(frozenset(names)), NAMES) is wanted
    assert wants_certificates(Wish(frozenset(names), everything=True), NAMES)


@given(
    st.frozensets(
        st.sampled_from(["default", "ROOTCA", "ALL", EXAMPLE, f"{EXAMPLE}/web", "spiffe://partner.org"])
        | st.text(max_size=5)
    ),
    st.booleans(),
)
def test_each_name_is_a_secret_or_unmatched_and_nothing_else_is_there(names, everything):
    selection = select(view(WEB, DB), Wish(names, everything), NAMES)
    found = [secret.name for secret in selection.secrets]
    assert len(found) == len(set(found))
    assert names <= set(found) | selection.unmatched
    assert not set(found) & selection.unmatched
    if not everything:
        assert set(found) <= names


def test_keys_are_not_shown():
    assert "PRIVATE" not in repr(chosen(view(WEB)))
    assert SpiffeID.parse(f"{EXAMPLE}/web") == WEB.id
