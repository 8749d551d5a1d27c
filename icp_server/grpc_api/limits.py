"""How often one address may attest, renew or ask for signatures: token buckets that make callers wait, then refuse.

Numbers and texts are SPIRE's: one attestation, 500 signatures of each kind, 500 published keys and ten status reports
a second and address, each with a burst of one second's worth. Callers over the Unix socket are not limited.
"""

import asyncio
import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from icp_server.domain.errors import ResourceExhausted

ATTESTATIONS_PER_SECOND: Final = 1
SIGNATURES_PER_SECOND: Final = 500
STATUS_REPORTS_PER_SECOND: Final = 10

LONGEST_WAIT: Final = 30.0
"""Seconds a caller may be queued. SPIRE queues without bound, which lets one address pile up calls for ever."""

_SWEEP_AT: Final = 1024


@dataclass(slots=True)
class TokenBucket:
    """A bucket of `burst` tokens that fills at `rate` tokens a second; debt is allowed and is paid by waiting."""

    rate: float
    burst: int
    tokens: float
    filled_at: float

    @classmethod
    def full(cls, rate: int, now: float) -> "TokenBucket":
        """Make a bucket that holds one second's worth."""
        return cls(rate=rate, burst=rate, tokens=rate, filled_at=now)

    def refill(self, now: float) -> None:
        """Bring the token count up to the moment `now`."""
        self.tokens = min(self.burst, self.tokens + (now - self.filled_at) * self.rate)
        self.filled_at = now

    def reserve(self, count: int, now: float, longest_wait: float) -> float | None:
        """Take `count` tokens and return the seconds to wait for them; None, and nothing taken, if that is too long."""
        self.refill(now)
        wait = max(0.0, (count - self.tokens) / self.rate)
        if wait > longest_wait:
            return None
        self.tokens -= count
        return wait

    def is_full(self, now: float) -> bool:
        """Say whether forgetting this bucket would change nothing."""
        self.refill(now)
        return self.tokens >= self.burst


class PerAddressLimit:
    """One token bucket for each calling address (an IPv6 caller counts by its /64, which one host owns whole)."""

    def __init__(
        self,
        rate: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        longest_wait: float = LONGEST_WAIT,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._longest_wait = longest_wait
        self._buckets: dict[str, TokenBucket] = {}
        self._sweep_at = _SWEEP_AT

    async def take(self, address: str | None, count: int = 1) -> None:
        """Wait until `count` calls from `address` fit the rate; None (a local caller) is never limited.

        Raises:
            ResourceExhausted: `count` is more than the burst, or the wait would be longer than the limit allows.
        """
        if address is None:
            return
        if count > self._rate:
            msg = f"rate ({count}) exceeds burst size ({self._rate})"
            raise ResourceExhausted(msg)
        now = self._clock()
        key = limit_key(address)
        bucket = self._buckets.get(key)
        if bucket is None:
            self._forget_idle(now)
            bucket = self._buckets[key] = TokenBucket.full(self._rate, now)
        wait = bucket.reserve(count, now, self._longest_wait)
        if wait is None:
            msg = f"rate limit of {self._rate} a second exceeded; try again later"
            raise ResourceExhausted(msg)
        if wait:
            await asyncio.sleep(wait)

    def __len__(self) -> int:
        return len(self._buckets)

    def _forget_idle(self, now: float) -> None:
        """Drop full buckets once there are many; the work is paid for by the calls that filled the table."""
        if len(self._buckets) < self._sweep_at:
            return
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if not bucket.is_full(now)}
        self._sweep_at = max(_SWEEP_AT, 2 * len(self._buckets))


async def take_turn(limit: "Limit", address: str | None, what: str, count: int = 1) -> None:
    """Take `count` of a limit, and refuse in SPIRE's words: `what` is the work that is limited.

    Raises:
        ResourceExhausted: as of `PerAddressLimit.take`.
    """
    try:
        await limit.take(address, count)
    except ResourceExhausted as error:
        raise ResourceExhausted(f"rejecting request due to {what} rate limiting: {error.message}") from error


class Unlimited:
    """Stands where the operator switched a limit off."""

    async def take(self, address: str | None, count: int = 1) -> None:
        """Let every call through."""


def limit_key(address: str) -> str:
    """Name the bucket of `address`: an IPv4 address itself, an IPv6 address's /64, anything else as it is."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


Limit = PerAddressLimit | Unlimited


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The limits of this server, one instance shared by all its listeners."""

    attestation: Limit
    signing: Limit
    jwt_signing: Limit
    wit_signing: Limit
    publishing: Limit
    status: Limit

    @classmethod
    def configured(cls, *, attestation: bool, signing: bool) -> "RateLimits":
        """Build the limits as `ratelimit { attestation, signing }` says; the other limits always hold."""
        return cls(
            attestation=PerAddressLimit(ATTESTATIONS_PER_SECOND) if attestation else Unlimited(),
            signing=PerAddressLimit(SIGNATURES_PER_SECOND) if signing else Unlimited(),
            jwt_signing=PerAddressLimit(SIGNATURES_PER_SECOND) if signing else Unlimited(),
            wit_signing=PerAddressLimit(SIGNATURES_PER_SECOND) if signing else Unlimited(),
            publishing=PerAddressLimit(SIGNATURES_PER_SECOND),
            status=PerAddressLimit(STATUS_REPORTS_PER_SECOND),
        )
