"""When to fetch again, and what to make of what was fetched; pure."""

from dataclasses import dataclass
from datetime import timedelta

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.federation.errors import StaleBundleError
from authsec_sdk.spiffe import TrustBundle
from authsec_sdk.workloadapi.backoff import Backoff

__all__ = ["News", "RefreshPolicy", "judge"]

_SPREAD = 0.1
_FIRST_RETRY = 2.0
_LONGEST_RETRY = 300.0


@dataclass(frozen=True, slots=True)
class RefreshPolicy:
    """How often to fetch, in seconds: as the bundle's own hint says, within bounds; `default` where it says nothing.

    The hint is the publisher's, so it can neither make us call without pause nor keep a removed authority alive here
    for weeks. Each time up to a tenth is taken off at random, so that not all clients come at once.

    Raises:
        ConfigurationError: not 0 < minimum <= default <= maximum.
    """

    default: float = 300.0
    minimum: float = 60.0
    maximum: float = 3600.0

    def __post_init__(self) -> None:
        if not 0 < self.minimum <= self.default <= self.maximum < float("inf"):
            raise ConfigurationError("a refresh policy needs 0 < minimum <= default <= maximum, in seconds")

    def interval(self, hint: timedelta | None) -> float:
        """Return the seconds that a bundle with this hint is good for."""
        return self.default if hint is None else min(self.maximum, max(self.minimum, hint.total_seconds()))

    def refresh_after(self, hint: timedelta | None, random: float) -> float:
        """Return how long to wait after a success, for a random number in [0, 1)."""
        return self.interval(hint) * (1.0 - _SPREAD * random)

    def retry_after(self, failures: int, hint: timedelta | None, random: float) -> float:
        """Return how long to wait after so many failures in a row (from 1), for a random number in [0, 1)."""
        cap = min(self.interval(hint), _LONGEST_RETRY)
        base = min(_FIRST_RETRY, cap)
        return Backoff(base=base, cap=cap, floor=base / 2).delay(failures, random)


@dataclass(frozen=True, slots=True)
class News:
    """What a fetch has brought: the bundle from now on, whether its authorities are others, and what is odd."""

    bundle: TrustBundle
    changed: bool
    oddity: str | None = None


def judge(known: TrustBundle | None, fetched: TrustBundle, highest: int | None = None) -> News:
    """Say what to make of a bundle of the domain that we may know one of (SPIFFE Federation 4.2).

    `highest` is the last number that was known, where `known` has none: it counts on, or a bundle without a number
    would let in older ones behind it.

    A lower sequence number is an older bundle, such as a stale cache's, and never taken. Of two bundles with the same
    number, or with none, the one fetched last counts; other authorities under the same number break a rule of the
    publisher (Trust Domain and Bundle 4.1.1), which is said and not punished: authorities it removed must go.

    Raises:
        StaleBundleError: the number is lower than the one we know.
    """
    if known is None:
        return News(fetched, changed=True)
    changed = not _same_authorities(known, fetched)
    old = highest if known.sequence_number is None else known.sequence_number
    new = fetched.sequence_number
    if old is not None and new is not None and new < old:
        raise StaleBundleError(
            f"the bundle of {fetched.trust_domain} has the sequence number {new}, and {old} is known: an older one"
        )
    oddity = None
    if changed and old is not None and new == old:
        oddity = f"the authorities of {fetched.trust_domain} changed and their sequence number {new} did not"
    elif old is not None and new is None:
        oddity = f"the bundle of {fetched.trust_domain} has no sequence number any more; {old} was known"
    return News(fetched, changed, oddity)


def _same_authorities(one: TrustBundle, other: TrustBundle) -> bool:
    return (one.x509_bundle(), one.jwt_bundle(), one.wit_bundle()) == (
        other.x509_bundle(),
        other.jwt_bundle(),
        other.wit_bundle(),
    )
