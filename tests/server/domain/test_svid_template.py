"""What goes into certificates, decided without signing any."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from icp_server.domain import svid_template as template
from icp_server.domain.errors import Internal, Unavailable

NOW = datetime(2026, 7, 1, 12, 0, 0, 900_000, tzinfo=UTC)
TD = TrustDomain("example.org")


def test_serial_numbers_are_never_zero_and_fit_128_bits() -> None:
    drawn = iter([0, 0, 2**128 - 1])
    assert template.new_serial_number(lambda _: next(drawn)) == 2**128 - 1
    assert len({template.new_serial_number() for _ in range(100)}) == 100
    assert all(0 < template.new_serial_number() < 2**128 for _ in range(100))


def test_a_leaf_begins_ten_seconds_ago_in_whole_seconds() -> None:
    not_before, not_after = template.leaf_validity(NOW, timedelta(hours=1), NOW + timedelta(days=1))
    assert not_before == datetime(2026, 7, 1, 11, 59, 50, tzinfo=UTC)
    assert not_after == datetime(2026, 7, 1, 13, 0, 0, tzinfo=UTC)


def test_a_leaf_never_outlives_its_authority() -> None:
    end = datetime(2026, 7, 1, 12, 0, 30, tzinfo=UTC)
    assert template.leaf_validity(NOW, timedelta(hours=1), end)[1] == end


def test_an_expired_authority_signs_nothing() -> None:
    with pytest.raises(Unavailable):
        template.leaf_validity(NOW, timedelta(hours=1), NOW.replace(microsecond=0))


def names(name: x509.Name) -> list[tuple[Any, Any]]:
    return [(attribute.oid, attribute.value) for attribute in name]


def test_the_subject_carries_the_first_dns_name() -> None:
    base = [(NameOID.COUNTRY_NAME, "US"), (NameOID.ORGANIZATION_NAME, "SPIRE")]
    assert names(template.leaf_subject(())) == base
    assert names(template.leaf_subject(("b.test", "a.test"))) == [*base, (NameOID.COMMON_NAME, "b.test")]


def test_a_dns_name_too_long_for_a_common_name_stays_out_of_it() -> None:
    long = ".".join(["a" * 40, "b" * 40])
    assert names(template.leaf_subject((long,))) == names(template.WORKLOAD_SUBJECT)


def test_a_minted_leaf_keeps_the_requested_subject_but_for_the_common_name() -> None:
    wanted = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "ACME"), x509.NameAttribute(NameOID.COMMON_NAME, "me")]
    )
    assert template.minted_subject(wanted, ()) == wanted
    assert names(template.minted_subject(wanted, ("a.test",))) == [
        (NameOID.ORGANIZATION_NAME, "ACME"),
        (NameOID.COMMON_NAME, "a.test"),
    ]
    assert template.minted_subject(x509.Name([]), ()) == template.WORKLOAD_SUBJECT


def test_a_default_authority_has_its_serial_number_in_its_subject() -> None:
    made = template.ca_template(TD, NOW, timedelta(days=1), template.CASubject(), 4711)
    assert names(made.subject) == [
        (NameOID.COUNTRY_NAME, "US"),
        (NameOID.ORGANIZATION_NAME, "SPIFFE"),
        (NameOID.SERIAL_NUMBER, "4711"),
    ]
    assert made.not_before == datetime(2026, 7, 1, 11, 59, 50, tzinfo=UTC)
    assert made.not_after == datetime(2026, 7, 2, 12, 0, 0, tzinfo=UTC)


def test_a_configured_subject_is_taken_as_it_is() -> None:
    subject = template.CASubject(("DE",), ("ACME",), "root")
    made = template.ca_template(TD, NOW, timedelta(days=1), subject, 4711)
    assert names(made.subject) == [
        (NameOID.COUNTRY_NAME, "DE"),
        (NameOID.ORGANIZATION_NAME, "ACME"),
        (NameOID.COMMON_NAME, "root"),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        "spiffe://example.org",
        "spiffe://other.org/a",
        "spiffe://example.org/spire/server",
        "spiffe://example.org/spire",
        "spiffe://example.org/spire/agent/x/y",
    ],
)
def test_wrong_workload_ids_are_never_signed(wrong: str) -> None:
    with pytest.raises(Internal):
        template.check_workload_id(SpiffeID.parse(wrong), TD)


@pytest.mark.parametrize("good", ["spiffe://example.org/a", "spiffe://example.org/spirex/a"])
def test_good_workload_ids(good: str) -> None:
    template.check_workload_id(SpiffeID.parse(good), TD)


@pytest.mark.parametrize(
    "wrong",
    [
        "spiffe://example.org",
        "spiffe://example.org/a",
        "spiffe://other.org/spire/agent/x/y",
        "spiffe://example.org/spire/server",
        "spiffe://example.org/spire/agent",
    ],
)
def test_wrong_agent_ids_are_never_signed_as_agents(wrong: str) -> None:
    with pytest.raises(Internal):
        template.check_agent_id(SpiffeID.parse(wrong), TD)


@pytest.mark.parametrize("wrong", ["spiffe://example.org", "spiffe://other.org/spire/server", "spiffe://example.org/a"])
def test_only_the_server_is_the_server(wrong: str) -> None:
    template.check_server_id(SpiffeID.parse("spiffe://example.org/spire/server"), TD)
    with pytest.raises(Internal):
        template.check_server_id(SpiffeID.parse(wrong), TD)
