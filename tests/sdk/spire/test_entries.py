from collections.abc import Callable
from dataclasses import fields

import pytest

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.entries import (
    AuthorizedEntry,
    EntryChanges,
    InvalidEntryError,
    RegistrationEntry,
    validate_new_entry,
)
from authsec_sdk.spire.selectors import Selector

Make = Callable[..., RegistrationEntry]


def test_a_right_entry_passes(make_entry: Make, home: TrustDomain) -> None:
    validate_new_entry(make_entry(), home)
    validate_new_entry(
        make_entry(
            id="My-entry_1.0",
            dns_names=("web.example.org", "*.web.example.org"),
            hint="h" * 1024,
            federates_with=(TrustDomain("other.org"),),
            parent_id=SpiffeID.parse("spiffe://example.org/spire/server"),
            store_svid=True,
            selectors=(Selector("aws", "a"), Selector("aws", "b")),
        ),
        home,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"parent_id": SpiffeID.parse("spiffe://other.org/a")},
            'invalid parent ID: "spiffe://other.org/a" is not a member of trust domain "example.org"',
        ),
        (
            {"parent_id": SpiffeID.parse("spiffe://example.org")},
            'invalid parent ID: "spiffe://example.org" is not a member of trust domain "example.org"; path is empty',
        ),
        (
            {"spiffe_id": SpiffeID.parse("spiffe://example.org/spire/agent/x/y")},
            (
                'invalid spiffe ID: "spiffe://example.org/spire/agent/x/y" is not a workload in trust domain '
                '"example.org"; path is in the reserved namespace'
            ),
        ),
        ({"dns_names": ("a.b", "c.*.d")}, "invalid DNS name: wildcard must be first label"),
        ({"selectors": ()}, "selector list is empty"),
        ({"hint": "h" * 1025}, "hint is too long, max length is 1024 characters"),
        ({"hint": "ä" * 513}, "hint is too long, max length is 1024 characters"),
        ({"id": "x" * 256}, "datastore-validation: invalid registration entry: entry ID too long"),
        ({"id": "a b"}, "datastore-validation: invalid registration entry: entry ID contains invalid characters"),
        ({"id": "a/b"}, "datastore-validation: invalid registration entry: entry ID contains invalid characters"),
        ({"x509_svid_ttl": -1}, "datastore-validation: invalid registration entry: X509SvidTtl is not set"),
        ({"jwt_svid_ttl": -1}, "datastore-validation: invalid registration entry: JwtSvidTtl is not set"),
        (
            {"store_svid": True, "selectors": (Selector("aws", "a"), Selector("gcp", "b"))},
            (
                "datastore-validation: invalid registration entry: "
                "selector types must be the same when store SVID is enabled"
            ),
        ),
        (
            {"store_svid": True, "disable_x509_svid_prefetch": True},
            "datastore-validation: specifying cache behaviour is incompatible with storable SVIDs",
        ),
        ({"dns_names": ("a.test", "b.test", "b.test")}, 'DNS name "b.test" is listed twice'),
    ],
)
def test_a_broken_rule_is_told_in_spires_words(
    make_entry: Make, home: TrustDomain, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidEntryError) as caught:
        validate_new_entry(make_entry(**changes), home)
    assert str(caught.value) == message
    assert caught.value.found_by_store is message.startswith("datastore-validation")


def test_the_first_rule_in_spires_order_is_told(make_entry: Make) -> None:
    with pytest.raises(InvalidEntryError, match="invalid parent ID"):
        validate_new_entry(make_entry(selectors=(), hint="h" * 2000), TrustDomain("another.org"))


def test_changes_touch_only_what_they_name(make_entry: Make) -> None:
    entry = make_entry(id="e", hint="old", admin=True, dns_names=("a",), revision_number=3)
    changed = EntryChanges(id="e", hint="", admin=False).apply_to(entry)
    assert (changed.hint, changed.admin) == ("", False)
    assert changed == make_entry(id="e", hint="", admin=False, dns_names=("a",), revision_number=3)
    assert EntryChanges(id="e").apply_to(entry) == entry


def test_every_changeable_field_is_one_of_the_entry() -> None:
    names = {field.name for field in fields(RegistrationEntry)}
    assert {field.name for field in fields(EntryChanges)} == names - {"revision_number", "created_at"}


def test_the_agents_view_carries_what_makes_a_copy_stale(make_entry: Make) -> None:
    view = AuthorizedEntry.of(make_entry(id="e", revision_number=7, created_at=9, x509_svid_ttl=60))
    assert (view.revision.id, view.revision.revision_number, view.revision.created_at) == ("e", 7, 9)
    assert not hasattr(view, "x509_svid_ttl")


@pytest.mark.parametrize(("end", "now", "expired"), [(0, 10, False), (10, 9, False), (10, 10, True), (10, 11, True)])
def test_an_entry_ends_when_its_time_has_come(make_entry: Make, end: int, now: int, expired: bool) -> None:
    assert make_entry(expires_at=end).expired(now) is expired
