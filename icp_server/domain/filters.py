"""What a listing is narrowed by: filters of entries and agents, each set member AND-ed with the others."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.selectors import Selector


class Match(enum.IntEnum):
    """How a set in a filter meets the set of a record; the numbers are those of the wire."""

    EXACT = 0
    SUBSET = 1
    """The record's set is contained in the filter's."""
    SUPERSET = 2
    """The record's set contains the filter's."""
    ANY = 3
    """They share at least one member."""


@dataclass(frozen=True, slots=True)
class SelectorMatch:
    """Records by their selectors. An empty set is refused by the service, not here."""

    selectors: frozenset[Selector]
    match: Match = Match.EXACT


@dataclass(frozen=True, slots=True)
class FederatesWithMatch:
    """Entries by the trust domains they federate with."""

    trust_domains: frozenset[TrustDomain]
    match: Match = Match.EXACT


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries; None filters nothing. An empty hint filters nothing either, and so does downstream=False.

    (The command line always sends ``by_downstream=false`` and means "no filter" by it.)
    """

    spiffe_id: SpiffeID | None = None
    parent_id: SpiffeID | None = None
    selectors: SelectorMatch | None = None
    federates_with: FederatesWithMatch | None = None
    hint: str | None = None
    downstream: bool | None = None


@dataclass(frozen=True, slots=True)
class AgentFilter:
    """Which agents; None filters nothing. ``expires_before`` is in Unix seconds."""

    attestation_type: str | None = None
    selectors: SelectorMatch | None = None
    banned: bool | None = None
    can_reattest: bool | None = None
    expires_before: int | None = None
