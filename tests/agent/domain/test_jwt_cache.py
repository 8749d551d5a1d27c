"""The agent's JWT-SVIDs: what is kept, and that no workload can make the agent keep more than it has room for."""

from datetime import UTC, datetime

from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.svids import IssuedToken
from icp_agent.domain.jwt_cache import MAXIMUM_TOKEN, CachedJWT, JWTCache, JWTKey

WEB = SpiffeID.parse("spiffe://example.org/web")
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def cached(length: int) -> CachedJWT:
    start = int(NOW.timestamp())
    return CachedJWT(IssuedToken(WEB, "t" * length, start, start + 300), "key")


def test_the_least_used_goes_first() -> None:
    cache, keys = JWTCache(2), [JWTKey.of(WEB, [name]) for name in "abc"]
    for key in keys:
        cache.put(key, cached(10))
    assert [cache.get(key) is not None for key in keys] == [False, True, True]


def test_a_token_as_long_as_a_workload_likes_is_not_kept() -> None:
    cache, key = JWTCache(2), JWTKey.of(WEB, ["a"])
    cache.put(key, cached(MAXIMUM_TOKEN))
    assert len(cache) == 1
    cache.put(key, cached(MAXIMUM_TOKEN + 1))
    assert len(cache) == 0


def test_empty_names_make_no_key_longer() -> None:
    assert JWTKey.of(WEB, ["b", *[""] * 1000, "a"]) == JWTKey.of(WEB, ["a", "b"])
