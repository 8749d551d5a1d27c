"""What to put into a certificate, before anything is signed: pure, as SPIRE's server fills it.

The standard's leaf rules (X509-SVID section 3-4) hold for every template made here: one URI SAN, an ID with a path,
of our trust domain. What the key is, is not decided here.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import NameOID

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.reserved_ids import is_agent_id, is_reserved, is_server_id
from icp_server.domain.errors import Internal, Unavailable

BACKDATE = timedelta(seconds=10)
"""NotBefore lies this far in the past, for peers whose clocks are a little slow."""

_MAX_COMMON_NAME = 64  # RFC 5280 appendix A, ub-common-name

COUNTRY, WORKLOAD_ORGANIZATION, CA_ORGANIZATION = "US", "SPIRE", "SPIFFE"

WORKLOAD_SUBJECT = x509.Name(
    [
        x509.NameAttribute(NameOID.COUNTRY_NAME, COUNTRY),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, WORKLOAD_ORGANIZATION),
    ]
)


@dataclass(frozen=True, slots=True)
class CASubject:
    """The operator's choice of a CA's subject; without one, SPIRE's default with the serial number in it."""

    country: tuple[str, ...] = ()
    organization: tuple[str, ...] = ()
    common_name: str = ""

    def __bool__(self) -> bool:
        return bool(self.country or self.organization or self.common_name)


@dataclass(frozen=True, slots=True)
class LeafTemplate:
    """An X509-SVID to be: key usage, extended key usage, basic constraints and key ids are the same for all."""

    serial_number: int
    subject: x509.Name
    spiffe_id: SpiffeID
    dns_names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    extensions: tuple[x509.Extension[x509.ExtensionType], ...] = ()
    """Beside those that all have."""


@dataclass(frozen=True, slots=True)
class CATemplate:
    """An authority to be, self-signed or a downstream server's."""

    serial_number: int
    subject: x509.Name
    trust_domain: TrustDomain
    not_before: datetime
    not_after: datetime
    extensions: tuple[x509.Extension[x509.ExtensionType], ...] = ()
    """Beside those that all have."""


def new_serial_number(random_bits: Callable[[int], int] = secrets.randbits) -> int:
    """A random number in 1..2^128-1 (never 0, which RFC 5280 section 4.1.2.2 forbids)."""
    while not (number := random_bits(128)):
        pass
    return number


def check_workload_id(spiffe_id: SpiffeID, trust_domain: TrustDomain) -> None:
    """Refuse an ID that must never be signed for a workload, whatever an entry or a CSR says.

    An ID without a path crashes go-spiffe's gRPC peers; one under ``/spire`` would be an agent or the server.

    Raises:
        Internal: the ID has no path, is reserved, or belongs to another trust domain.
    """
    if not spiffe_id.member_of(trust_domain):
        raise Internal(f'"{spiffe_id}" is not a member of trust domain "{trust_domain}"')
    if not spiffe_id.path:
        raise Internal(f'invalid workload ID: "{spiffe_id}" has no path')
    if is_reserved(spiffe_id):
        raise Internal(f'invalid workload ID: "{spiffe_id}" is in the reserved namespace')


def check_agent_id(spiffe_id: SpiffeID, trust_domain: TrustDomain) -> None:
    """Refuse an ID that is not one of an agent of this trust domain.

    Raises:
        Internal: it is not.
    """
    if not (spiffe_id.member_of(trust_domain) and is_agent_id(spiffe_id)):
        raise Internal(f'"{spiffe_id}" is not an agent ID in trust domain "{trust_domain}"')


def check_server_id(spiffe_id: SpiffeID, trust_domain: TrustDomain) -> None:
    """Refuse an ID that is not this trust domain's server's.

    Raises:
        Internal: it is not.
    """
    if not (spiffe_id.member_of(trust_domain) and is_server_id(spiffe_id)):
        raise Internal(f'"{spiffe_id}" is not the server of trust domain "{trust_domain}"')


def leaf_validity(now: datetime, ttl: timedelta, authority_not_after: datetime) -> tuple[datetime, datetime]:
    """NotBefore and NotAfter of a leaf: whole seconds, and never beyond the authority that signs it.

    Raises:
        Unavailable: the authority has expired, so that nothing it signs would be of use.
    """
    start = now.replace(microsecond=0)
    if start >= authority_not_after:
        raise Unavailable("the X.509 authority has expired")
    return start - BACKDATE, min(start + ttl, authority_not_after)


def leaf_subject(dns_names: tuple[str, ...]) -> x509.Name:
    """C=US, O=SPIRE, and the first DNS name as common name, where it fits one (64 characters)."""
    if not dns_names or len(dns_names[0]) > _MAX_COMMON_NAME:
        return WORKLOAD_SUBJECT
    return with_common_name(WORKLOAD_SUBJECT, dns_names[0])


@functools.lru_cache(maxsize=4096)
def with_common_name(subject: x509.Name, common_name: str) -> x509.Name:
    """The subject with this common name in place of any it had."""
    attributes = [attribute for attribute in subject if attribute.oid != NameOID.COMMON_NAME]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def minted_subject(requested: x509.Name, dns_names: tuple[str, ...]) -> x509.Name:
    """An administrator's CSR may bring a subject of its own; the first DNS name still becomes the common name."""
    if not list(requested):
        return leaf_subject(dns_names)
    if not dns_names or len(dns_names[0]) > _MAX_COMMON_NAME:
        return requested
    return with_common_name(requested, dns_names[0])


def ca_template(
    trust_domain: TrustDomain, now: datetime, ttl: timedelta, subject: CASubject, serial_number: int
) -> CATemplate:
    """A self-signed authority: its ID is the trust domain's own, which no leaf may have."""
    start = now.replace(microsecond=0)
    return CATemplate(
        serial_number=serial_number,
        subject=_ca_subject(subject, serial_number),
        trust_domain=trust_domain,
        not_before=start - BACKDATE,
        not_after=start + ttl,
    )


def downstream_ca_template(
    trust_domain: TrustDomain, validity: tuple[datetime, datetime], issuer: x509.Name, depth: int
) -> CATemplate:
    """A downstream server's authority: its subject is the issuer's with how far below the root it stands."""
    unit = x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"DOWNSTREAM-{depth}")
    kept = [attribute for attribute in issuer if attribute.oid != NameOID.ORGANIZATIONAL_UNIT_NAME]
    place = next((at for at, attribute in enumerate(kept) if attribute.oid == NameOID.SERIAL_NUMBER), len(kept))
    return CATemplate(
        serial_number=new_serial_number(),
        subject=x509.Name([*kept[:place], unit, *kept[place:]]),
        trust_domain=trust_domain,
        not_before=validity[0],
        not_after=validity[1],
    )


def upstream_ca_subject(subject: CASubject) -> x509.Name:
    """What a server asks its upstream authority to be called: as `ca_template`, without a serial number of its own."""
    if not subject:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.COUNTRY_NAME, COUNTRY),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, CA_ORGANIZATION),
            ]
        )
    return _ca_subject(subject, 0)


def _ca_subject(subject: CASubject, serial_number: int) -> x509.Name:
    if not subject:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.COUNTRY_NAME, COUNTRY),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, CA_ORGANIZATION),
                # Roots of one trust domain would otherwise share one name, and verifiers would try each of them.
                x509.NameAttribute(NameOID.SERIAL_NUMBER, str(serial_number)),
            ]
        )
    attributes = [x509.NameAttribute(NameOID.COUNTRY_NAME, country) for country in subject.country]
    attributes += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in subject.organization]
    if subject.common_name:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name))
    return x509.Name(attributes)
