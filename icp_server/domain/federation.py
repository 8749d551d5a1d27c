"""Other trust domains: where their bundles are fetched, what is kept of them, and what of it an update touches."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.tainted import PublishedBundle


class DeleteMode(enum.Enum):
    """What becomes of the entries that federate with a bundle which is deleted; the numbers are those on the wire."""

    RESTRICT = 0
    """Refuse while there are any."""
    DELETE = 1
    """They go with it."""
    DISSOCIATE = 2
    """They stay and federate with it no more."""


@dataclass(frozen=True, slots=True)
class BundleFields:
    """Which parts of a bundle an update replaces."""

    x509_authorities: bool = True
    jwt_authorities: bool = True
    wit_authorities: bool = True
    refresh_hint: bool = True
    sequence_number: bool = True


ALL_FIELDS: Final = BundleFields()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a bundle is fetched. Without `server_id` it is `https_web`, with it `https_spiffe`: who has to answer."""

    url: str
    server_id: SpiffeID | None = None


@dataclass(frozen=True, slots=True)
class FederationRelationship:
    """That we follow the bundle of another trust domain; `bundle` is what is known of it, if anything."""

    trust_domain: TrustDomain
    endpoint: Endpoint
    bundle: PublishedBundle | None = None


@dataclass(frozen=True, slots=True)
class RelationshipChanges:
    """An update of a relationship; what is None stays as it is."""

    trust_domain: TrustDomain
    url: str | None = None
    profile: Endpoint | None = None
    """Its `server_id` counts, and its absence; not its URL."""
    bundle: PublishedBundle | None = None
