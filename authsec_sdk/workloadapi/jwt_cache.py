"""Which JWT-SVIDs are still good enough to be used, and when to ask for newer ones: pure, the time is an argument."""

import enum
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from authsec_sdk.spiffe import JWTSVID, BundleSet, JWTBundle
from authsec_sdk.workloadapi.backoff import Backoff
from authsec_sdk.workloadapi.jwt_wire import JWTRequest

__all__ = ["AFTER_FAILED_REFRESH", "CachedSVID", "JWTCache", "Standing", "believed"]

AFTER_FAILED_REFRESH = Backoff(base=1.0, cap=30.0, floor=0.5)
"""How long to use what there is before the agent is asked again, once it did not answer."""

_MARGIN = timedelta(seconds=5)


class Standing(enum.Enum):
    """What a cached SVID is good for."""

    FRESH = "fresh"
    """Use it."""

    AGED = "aged"
    """Use it, and ask for a newer one meanwhile."""

    RESTING = "aged, and the agent did not answer just now"
    """Use it, and ask for a newer one later."""

    GONE = "gone"
    """There is none, or it would expire on its way: wait for a newer one."""


@dataclass(frozen=True, slots=True)
class CachedSVID:
    """An SVID and the moments that matter. `of` computes them."""

    svid: JWTSVID
    refresh_at: datetime
    useless_at: datetime
    failures: int = 0
    rest_until: datetime | None = None

    @classmethod
    def of(cls, svid: JWTSVID, now: datetime) -> "CachedSVID":
        """Note an SVID that has just arrived.

        Half of its life counts from `iat`, or from now where it has none, or where it is of another clock's future. Its
        last five seconds, or last tenth if that is less, are left for the way to whoever validates it.
        """
        born = now if svid.issued_at is None else min(svid.issued_at, now)
        life = svid.expires_at - born
        return cls(svid, born + life / 2, svid.expires_at - min(_MARGIN, life / 10))

    def standing(self, now: datetime) -> Standing:
        """Say what it is good for now."""
        if now >= self.useless_at:
            return Standing.GONE
        if now < self.refresh_at:
            return Standing.FRESH
        return Standing.RESTING if self.rest_until is not None and now < self.rest_until else Standing.AGED

    def failed(self, now: datetime, random_number: float) -> "CachedSVID":
        """Note that a newer one could not be had."""
        rest = timedelta(seconds=AFTER_FAILED_REFRESH.delay(self.failures + 1, random_number))
        return replace(self, failures=self.failures + 1, rest_until=now + rest)


class JWTCache:
    """SVIDs by what was asked for: subject and sorted audience. The longest unused one goes when it is full.

    Not thread-safe; its owner locks.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._cached: OrderedDict[JWTRequest, CachedSVID] = OrderedDict()

    def __len__(self) -> int:
        return len(self._cached)

    def look(self, request: JWTRequest, now: datetime) -> tuple[Standing, JWTSVID | None]:
        """Return what there is, and what it is good for."""
        cached = self._cached.get(request)
        if cached is None:
            return Standing.GONE, None
        self._cached.move_to_end(request)
        return cached.standing(now), cached.svid

    def put(self, request: JWTRequest, svid: JWTSVID, now: datetime) -> None:
        """Keep an SVID that has just arrived."""
        self._cached[request] = CachedSVID.of(svid, now)
        self._cached.move_to_end(request)
        while len(self._cached) > self._capacity:
            self._cached.popitem(last=False)

    def failed(self, request: JWTRequest, now: datetime, random_number: float) -> None:
        """Note that a newer one could not be had."""
        if request in self._cached:
            self._cached[request] = self._cached[request].failed(now, random_number)

    def forget_untrusted(self, bundles: BundleSet[JWTBundle]) -> None:
        """Drop SVIDs whose key has been taken from the bundle of their trust domain: nobody believes them any more."""
        for request, cached in tuple(self._cached.items()):
            if not believed(cached.svid, bundles):
                del self._cached[request]

    def clear(self) -> None:
        """Drop everything."""
        self._cached.clear()


def believed(svid: JWTSVID, bundles: BundleSet[JWTBundle]) -> bool:
    """Say whether the key that signed an SVID is in the bundle of its trust domain, as far as anybody can tell."""
    bundle = bundles.get(svid.id.trust_domain)
    return bundle is None or svid.key_id is None or svid.key_id in bundle.authorities
