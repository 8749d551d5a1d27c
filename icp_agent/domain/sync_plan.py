"""What to do after each look at the server: which SVIDs to sign, renew and drop, and when to look again."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from authsec_sdk.spire.entries import AuthorizedEntry, EntryRevision
from authsec_sdk.spire.renewal import should_renew
from icp_agent.domain.identity_cache import IdentityCache

MAXIMUM_PAUSE = timedelta(minutes=8)
"""However long the server stays away, the agent looks again after this."""

_BACKOFF = 1.5
_MAXIMUM_INTERVALS = 48
_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """What to act on. `sign` are entries without a usable SVID, `renew` entries whose SVID is to be replaced in time.

    In both, what workloads wait for or use comes first.
    """

    sign: tuple[AuthorizedEntry, ...] = ()
    renew: tuple[AuthorizedEntry, ...] = ()
    drop: frozenset[str] = frozenset()

    @property
    def to_sign(self) -> tuple[AuthorizedEntry, ...]:
        """All that needs a signature, the missing before the merely old."""
        return self.sign + self.renew


@dataclass(frozen=True, slots=True)
class Use:
    """How entries are used: `active` by streams that are open now, `last` when each was last asked for (any clock)."""

    active: frozenset[str] = frozenset()
    last: Mapping[str, float] | None = None

    def rank(self, entry_id: str) -> tuple[bool, float]:
        """Greater means less used."""
        return entry_id not in self.active, -(self.last or {}).get(entry_id, 0.0)


def sync_plan(
    cache: IdentityCache,
    now: datetime,
    *,
    use: Use = Use(),
    limit: int = 1000,
    availability_target: timedelta = timedelta(),
    jitter: Callable[[], float] = lambda: 0.0,
) -> Plan:
    """Compare entries with SVIDs.

    SVIDs are made before anybody asks, for at most `limit` entries that nobody uses; what is in use always has one
    (the limit is soft), and an entry that asks not to be prefetched gets one only then. `jitter` is drawn from [-1, 1]
    for each SVID at each look. An SVID is replaced when its time has come, its entry
    changed since, or the authority that signed it was tainted.
    """
    wanted = _wanted(cache, use, limit)
    sign, renew = [], []
    for entry in wanted:
        signed = cache.svids.get(entry.id)
        if signed is None or cache.usable_svid(entry, now) is None:
            sign.append(entry)
        elif (
            signed.authority_key_id in cache.tainted
            or signed.revision != entry.revision
            or should_renew(
                signed.svid.not_before,
                signed.svid.not_after,
                now,
                jitter=jitter(),
                availability_target=availability_target,
            )
        ):
            renew.append(entry)
    kept = {entry.id for entry in wanted}
    return Plan(tuple(sign), tuple(renew), frozenset(id_ for id_ in cache.svids if id_ not in kept))


def _wanted(cache: IdentityCache, use: Use, limit: int) -> list[AuthorizedEntry]:
    eligible = [entry for entry in cache.entries.values() if not entry.store_svid]
    active = [entry for entry in eligible if entry.id in use.active]
    others = [
        entry
        for entry in eligible
        if entry.id not in use.active and (entry.id in cache.svids or not entry.disable_x509_svid_prefetch)
    ]
    # Those that have an SVID stay ahead of those that do not, or two sets would push each other out for ever.
    others.sort(key=lambda entry: (*use.rank(entry.id), entry.id not in cache.svids, entry.id))
    return active + others[: max(limit - len(active), 0)]


def stale_entries(known: Mapping[str, AuthorizedEntry], revisions: Iterable[EntryRevision]) -> list[str]:
    """The ids to ask the server for in full, sorted: those we do not have, or have in another state."""
    return sorted(
        {
            revision.id
            for revision in revisions
            if (entry := known.get(revision.id)) is None or entry.revision != revision
        }
    )


def merged_entries(
    known: Mapping[str, AuthorizedEntry], revisions: Iterable[EntryRevision], fetched: Iterable[AuthorizedEntry]
) -> list[AuthorizedEntry]:
    """The complete list after a paged sync: each revision told, as we had it or as fetched just now.

    An entry that was asked for and not sent was deleted in between: it is left out, and so is one that we know only in
    a state the server no longer has.
    """
    fresh = {entry.id: entry for entry in fetched}
    merged = {}
    for revision in revisions:
        kept = known.get(revision.id)
        if revision.id in fresh:
            merged[revision.id] = fresh[revision.id]
        elif kept is not None and kept.revision == revision:
            merged[revision.id] = kept
    return list(merged.values())


def next_pause(interval: timedelta, failures: int, jitter: float) -> timedelta:
    """How long to wait after `failures` looks that failed in a row; `jitter` from [-1, 1] moves it by up to 10 %.

    The pause grows by half with each failure, to the lesser of 8 minutes and 48 intervals, and never below `interval`.
    """
    most = min(MAXIMUM_PAUSE, interval * _MAXIMUM_INTERVALS)
    grown = interval.total_seconds() * _BACKOFF ** min(failures, 64)
    seconds = max(min(grown, most.total_seconds()), interval.total_seconds())
    return timedelta(seconds=seconds * (1 + _JITTER * jitter))


def next_batch_size(size: int, *, failed: bool, maximum: int = 500) -> int:
    """How many SVIDs to ask for in the next call: half as many after a failure, twice as many after a success."""
    return max(size // 2, 1) if failed else min(size * 2, maximum)
