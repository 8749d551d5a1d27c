"""When to renew what expires: at half its life, a little earlier or later for each so that not all come at once.

Pure: the caller brings the clock and draws the jitter. Counted from NotBefore, which carries the issuer's cushion for
slow clocks (10 s in SPIRE), so a 40 s SVID renews with about 25 s left.
"""

from datetime import datetime, timedelta

JITTER_SHARE = 10
"""The jitter is at most one tenth of the half-life, either way."""

AVAILABILITY_SPREAD = timedelta(minutes=10)
"""How much earlier than the availability target demands an SVID may be renewed."""

MINIMUM_GRACE = timedelta(hours=12)
"""An availability target which leaves no more life than this before it is ignored: half-life decides."""


def renew_at(
    not_before: datetime, not_after: datetime, *, jitter: float = 0.0, availability_target: timedelta = timedelta()
) -> datetime:
    """The moment from which what lives from `not_before` to `not_after` is to be renewed.

    `jitter` is drawn by the caller from [-1, 1]: -1 renews latest, 1 earliest. Without an `availability_target` (the
    life that must remain should the server fall silent), or when it leaves no grace, half-life ±10 % decides.
    Never after `not_after`.

    Raises:
        ValueError: `jitter` is outside [-1, 1].
    """
    if not -1.0 <= jitter <= 1.0:
        raise ValueError(f"jitter is drawn from [-1, 1], not {jitter}")
    half_life = max(not_after - not_before, timedelta()) / 2
    remaining = half_life + half_life / JITTER_SHARE * jitter
    if _target_applies(not_after - not_before, availability_target):
        remaining = max(remaining, availability_target + AVAILABILITY_SPREAD * ((jitter + 1.0) / 2))
    return not_after - remaining


def should_renew(
    not_before: datetime,
    not_after: datetime,
    now: datetime,
    *,
    jitter: float = 0.0,
    availability_target: timedelta = timedelta(),
) -> bool:
    """Whether the moment `renew_at` names has come; always true once expired."""
    return now >= renew_at(not_before, not_after, jitter=jitter, availability_target=availability_target)


def _target_applies(lifetime: timedelta, availability_target: timedelta) -> bool:
    return availability_target > timedelta() and lifetime - availability_target > MINIMUM_GRACE
