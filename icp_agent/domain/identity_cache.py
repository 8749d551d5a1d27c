"""The identities of this node: which workload gets which, when it is complete, and whether a change concerns it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Self, TypeVar

from authsec_sdk.spiffe import X509SVID, BundleSet, JWTBundle, TrustDomain, X509Bundle
from authsec_sdk.spire.entries import AuthorizedEntry, EntryRevision
from authsec_sdk.spire.selectors import Selector, matches

_NO_BUNDLES: BundleSet[X509Bundle] = BundleSet.of()
_NO_JWT_BUNDLES: BundleSet[JWTBundle] = BundleSet.of()
_B = TypeVar("_B", X509Bundle, JWTBundle)


@dataclass(frozen=True, slots=True)
class SignedSVID:
    """An SVID, the state of the entry it was signed for, and the key id of the authority its chain leads to."""

    svid: X509SVID
    revision: EntryRevision
    authority_key_id: bytes = b""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a workload is given: an entry and the SVID signed for it."""

    entry: AuthorizedEntry
    svid: X509SVID


@dataclass(frozen=True, slots=True)
class WorkloadView:
    """What one workload may know at one moment. Two equal views need one message.

    `identities` go by entry id. `pending` are entries that match and have no usable SVID yet, `failed` those of them
    whose signing was tried and refused or failed: they are not worth waiting for.
    """

    identities: tuple[Identity, ...]
    pending: frozenset[str]
    failed: frozenset[str]
    bundle: X509Bundle | None
    federated: BundleSet[X509Bundle]
    jwt_bundle: JWTBundle | None = None
    jwt_federated: BundleSet[JWTBundle] = _NO_JWT_BUNDLES

    @property
    def registered(self) -> bool:
        """Whether any entry is for this workload."""
        return bool(self.identities or self.pending)

    @property
    def complete(self) -> bool:
        """Whether it can be sent: there is an identity, and nothing is missing which is still expected."""
        return bool(self.identities) and self.pending <= self.failed

    @property
    def expires_at(self) -> datetime | None:
        """When the first of the identities expires: from then on this view is no longer true."""
        return min((identity.svid.not_after for identity in self.identities), default=None)


@dataclass(frozen=True, slots=True)
class IdentityCache:
    """All the agent knows at one moment; replaced by the `with_…` methods, never changed.

    `synced`: the server has told which entries are this agent's. Before that "no entry" means nothing.
    Not checked: that SVIDs belong to their entries' IDs when stored; `usable_svid` looks when they are asked for.
    """

    entries: Mapping[str, AuthorizedEntry] = field(default_factory=lambda: MappingProxyType({}))
    svids: Mapping[str, SignedSVID] = field(default_factory=lambda: MappingProxyType({}))
    failed: frozenset[str] = frozenset()
    bundle: X509Bundle | None = None
    federated: BundleSet[X509Bundle] = _NO_BUNDLES
    jwt_bundle: JWTBundle | None = None
    jwt_federated: BundleSet[JWTBundle] = _NO_JWT_BUNDLES
    tainted: frozenset[bytes] = frozenset()
    """Key ids of X.509 authorities whose SVIDs are to be replaced at once."""
    synced: bool = False
    _by_selector: Mapping[Selector, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    def with_entries(self, entries: Iterable[AuthorizedEntry]) -> Self:
        """The complete list of entries as the server has it now; what is not in it is forgotten, SVID and all."""
        known = {entry.id: entry for entry in sorted(entries, key=lambda entry: entry.id)}
        return replace(
            self,
            entries=MappingProxyType(known),
            svids=MappingProxyType({id_: signed for id_, signed in self.svids.items() if id_ in known}),
            failed=self.failed & known.keys(),
            synced=True,
            _by_selector=_index(known.values()),
        )

    def with_svids(self, signed: Mapping[str, SignedSVID], *, failed: Iterable[str] = ()) -> Self:
        """New SVIDs by entry id, and the entries whose signing failed; entries no longer known are ignored."""
        fresh = {id_: svid for id_, svid in signed.items() if id_ in self.entries}
        refused = frozenset(failed) & self.entries.keys()
        return replace(
            self,
            svids=MappingProxyType({**self.svids, **fresh}),
            failed=(self.failed - fresh.keys()) | refused,
        )

    def without_svids(self, entry_ids: Iterable[str]) -> Self:
        """Forget these SVIDs, and keep their entries."""
        forgotten = frozenset(entry_ids)
        if not forgotten & self.svids.keys():
            return self
        kept = {id_: signed for id_, signed in self.svids.items() if id_ not in forgotten}
        return replace(self, svids=MappingProxyType(kept))

    def with_bundles(self, bundle: X509Bundle, federated: BundleSet[X509Bundle]) -> Self:
        """The trust bundles, own and federated, as the server has them now."""
        return replace(self, bundle=bundle, federated=federated)

    def with_jwt_bundles(self, bundle: JWTBundle, federated: BundleSet[JWTBundle]) -> Self:
        """The same of JWT authorities."""
        return replace(self, jwt_bundle=bundle, jwt_federated=federated)

    def with_tainted(self, key_ids: frozenset[bytes]) -> Self:
        """The X.509 authorities that are tainted now."""
        return replace(self, tainted=key_ids)

    def usable_svid(self, entry: AuthorizedEntry, now: datetime) -> X509SVID | None:
        """The entry's SVID if it is for the entry's ID and has not expired, whatever else of the entry changed."""
        signed = self.svids.get(entry.id)
        if signed is None or signed.svid.id != entry.spiffe_id or signed.svid.not_after <= now:
            return None
        return signed.svid

    def matching(self, selectors: frozenset[Selector]) -> tuple[AuthorizedEntry, ...]:
        """The entries a workload with these selectors gets, by id, without those another one's hint rules out.

        Of entries with the same hint the oldest stays, then the one with the lowest id (as SPIRE has it). Entries
        whose SVIDs go to a store and not to workloads are left out.
        """
        candidates = {id_ for selector in selectors for id_ in self._by_selector.get(selector, ())}
        found = [self.entries[id_] for id_ in sorted(candidates) if matches(self.entries[id_].selectors, selectors)]
        return _without_duplicate_hints(found)

    def view(self, selectors: frozenset[Selector], now: datetime) -> WorkloadView:
        """What a workload with these selectors may know now. Expired SVIDs count as missing."""
        entries = self.matching(selectors)
        identities = []
        pending = set()
        for entry in entries:
            svid = self.usable_svid(entry, now)
            if svid is None:
                pending.add(entry.id)
            else:
                identities.append(Identity(entry, svid))
        return WorkloadView(
            identities=tuple(identities),
            pending=frozenset(pending),
            failed=self.failed & pending,
            bundle=self.bundle,
            federated=_of_entries(self.federated, entries),
            jwt_bundle=self.jwt_bundle,
            jwt_federated=_of_entries(self.jwt_federated, entries),
        )

    def federated_trust_domains(self) -> frozenset[TrustDomain]:
        """Every trust domain some entry federates with."""
        return frozenset(domain for entry in self.entries.values() for domain in entry.federates_with)


def _of_entries(bundles: BundleSet[_B], entries: Iterable[AuthorizedEntry]) -> BundleSet[_B]:
    wanted = {domain for entry in entries for domain in entry.federates_with}
    found = (bundles.get(domain) for domain in sorted(wanted, key=str))
    return BundleSet.of(*(bundle for bundle in found if bundle is not None))


def must_be_told(before: WorkloadView | None, after: WorkloadView) -> bool:
    """Whether a workload that was told `before` is to be told `after`: it says something else and is complete."""
    if not after.complete:
        return False
    return before is None or _told(before) != _told(after)


def _told(view: WorkloadView) -> tuple[object, ...]:
    return (
        tuple((identity.entry.id, identity.entry.hint, identity.svid) for identity in view.identities),
        view.bundle,
        view.federated,
    )


def _index(entries: Iterable[AuthorizedEntry]) -> Mapping[Selector, tuple[str, ...]]:
    # An entry that matches has all its selectors among the workload's, so one of them is enough to find it by: the
    # greatest, since those of one type share their beginnings (uid, user) and the last is the most telling (sha256).
    found: defaultdict[Selector, list[str]] = defaultdict(list)
    for entry in entries:
        if entry.selectors and not entry.store_svid:
            found[max(entry.selectors)].append(entry.id)
    return MappingProxyType({selector: tuple(ids) for selector, ids in found.items()})


def _without_duplicate_hints(entries: list[AuthorizedEntry]) -> tuple[AuthorizedEntry, ...]:
    winners: dict[str, AuthorizedEntry] = {}
    for entry in entries:
        if not entry.hint:
            continue
        best = winners.setdefault(entry.hint, entry)
        if (entry.created_at, entry.id) < (best.created_at, best.id):
            winners[entry.hint] = entry
    return tuple(entry for entry in entries if not entry.hint or winners[entry.hint] is entry)
