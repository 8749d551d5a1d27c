"""When a cached JWT-SVID is used, renewed, or gone: a table of moments, no clock."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from authsec_sdk.spiffe import BundleSet, JWTBundle, TrustDomain
from authsec_sdk.testing import TestTokenCA
from authsec_sdk.workloadapi.jwt_cache import CachedSVID, JWTCache, Standing
from authsec_sdk.workloadapi.jwt_wire import JWTRequest

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CA = TestTokenCA("example.org", clock=lambda: NOW)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def svid(ttl: float = 300, **options: Any) -> Any:
    return CA.jwt_svid("/workload", ["payments"], ttl=timedelta(seconds=ttl), **options)


@pytest.mark.parametrize(
    ("ttl", "seconds", "standing"),
    [
        (300, 0, Standing.FRESH),
        (300, 149, Standing.FRESH),
        (300, 150, Standing.AGED),
        (300, 294, Standing.AGED),
        (300, 295, Standing.GONE),
        (300, 301, Standing.GONE),
        (10, 4, Standing.FRESH),
        (10, 5, Standing.AGED),
        (10, 8, Standing.AGED),
        (10, 9, Standing.GONE),
    ],
)
def test_half_life_and_end(ttl: float, seconds: float, standing: Standing) -> None:
    assert CachedSVID.of(svid(ttl), NOW).standing(after(seconds)) is standing


def test_an_svid_that_was_old_on_arrival_is_renewed_by_its_own_age() -> None:
    assert CachedSVID.of(svid(100, claims={"iat": int(after(-200).timestamp())}), NOW).standing(NOW) is Standing.AGED


def test_without_iat_half_life_counts_from_arrival() -> None:
    cached = CachedSVID.of(svid(300, without=["iat"]), after(100))
    assert cached.standing(after(199)) is Standing.FRESH
    assert cached.standing(after(200)) is Standing.AGED


def test_an_iat_of_the_future_counts_from_arrival() -> None:
    cached = CachedSVID.of(svid(300, claims={"iat": int(after(250).timestamp())}), NOW)
    assert cached.standing(after(150)) is Standing.AGED


def test_after_a_failure_it_rests() -> None:
    cached = CachedSVID.of(svid(300), NOW).failed(after(150), 0.999)
    assert cached.standing(after(150.4)) is Standing.RESTING
    assert cached.standing(after(152)) is Standing.AGED
    for _ in range(20):
        cached = cached.failed(after(160), 0.999)
    assert cached.standing(after(189)) is Standing.RESTING
    assert cached.standing(after(191)) is Standing.AGED
    assert cached.standing(after(296)) is Standing.GONE


def test_the_longest_unused_goes() -> None:
    cache = JWTCache(2)
    requests = [JWTRequest((name,)) for name in "abc"]
    for request in requests[:2]:
        cache.put(request, svid(), NOW)
    assert cache.look(requests[0], NOW)[0] is Standing.FRESH
    cache.put(requests[2], svid(), NOW)
    assert [cache.look(request, NOW)[0] for request in requests] == [Standing.FRESH, Standing.GONE, Standing.FRESH]
    assert len(cache) == 2
    cache.failed(requests[1], NOW, 0.5)
    assert len(cache) == 2
    cache.clear()
    assert len(cache) == 0


def test_what_nobody_believes_any_more_is_forgotten() -> None:
    cache, request = JWTCache(10), JWTRequest(("payments",))
    cache.put(request, svid(), NOW)
    cache.forget_untrusted(BundleSet.of(CA.jwt_bundle()))
    cache.forget_untrusted(BundleSet.of(JWTBundle(TrustDomain("other.test"), {})))
    assert cache.look(request, NOW)[0] is Standing.FRESH
    cache.forget_untrusted(BundleSet.of(JWTBundle(TrustDomain("example.org"), {})))
    assert cache.look(request, NOW) == (Standing.GONE, None)
    cache.put(request, svid(without=["kid"]), NOW)
    cache.forget_untrusted(BundleSet.of(JWTBundle(TrustDomain("example.org"), {})))
    assert cache.look(request, NOW)[0] is Standing.FRESH, "whose key that is, nobody can tell"
