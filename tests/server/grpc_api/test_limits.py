"""Rate limits: callers wait, then are refused; addresses do not disturb each other; the table stays small."""

import anyio
import pytest

from icp_server.domain.errors import ResourceExhausted
from icp_server.grpc_api.limits import PerAddressLimit, RateLimits, TokenBucket, Unlimited, limit_key

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_full_bucket_gives_its_burst_at_once_and_then_makes_wait() -> None:
    bucket = TokenBucket.full(10, now=0.0)
    assert bucket.reserve(10, 0.0, 60) == 0.0
    assert bucket.reserve(5, 0.0, 60) == pytest.approx(0.5)
    assert bucket.reserve(5, 0.0, 60) == pytest.approx(1.0)


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket.full(10, now=0.0)
    bucket.refill(1000.0)
    assert bucket.reserve(10, 1000.0, 60) == 0.0
    assert bucket.reserve(1, 1000.0, 60) == pytest.approx(0.1)


def test_a_refused_reservation_takes_nothing() -> None:
    bucket = TokenBucket.full(1, now=0.0)
    assert bucket.reserve(1, 0.0, 1) == 0.0
    assert bucket.reserve(1, 0.0, 1) == pytest.approx(1.0)
    assert bucket.reserve(1, 0.0, 1) is None
    assert bucket.reserve(1, 1.0, 1) == pytest.approx(1.0)


async def test_more_than_the_burst_is_refused_in_spires_words() -> None:
    limit = PerAddressLimit(500)
    with pytest.raises(ResourceExhausted, match=r"^rate \(501\) exceeds burst size \(500\)$"):
        await limit.take("192.0.2.1", 501)


async def test_one_address_is_held_back_and_another_is_not() -> None:
    clock = Clock()
    limit = PerAddressLimit(1, clock=clock, longest_wait=0.0)
    await limit.take("192.0.2.1")
    with pytest.raises(ResourceExhausted):
        await limit.take("192.0.2.1")
    await limit.take("192.0.2.2")
    clock.now += 1
    await limit.take("192.0.2.1")


async def test_a_caller_waits_for_its_turn() -> None:
    limit = PerAddressLimit(20)
    await limit.take("192.0.2.1", 20)
    before = anyio.current_time()
    with anyio.fail_after(20):
        await limit.take("192.0.2.1", 1)
    assert anyio.current_time() > before


async def test_local_callers_are_never_limited() -> None:
    limit = PerAddressLimit(1, longest_wait=0.0)
    for _ in range(100):
        await limit.take(None, 1000)


async def test_addresses_that_came_once_are_forgotten() -> None:
    clock = Clock()
    limit = PerAddressLimit(1, clock=clock)
    for number in range(5000):
        clock.now += 1
        await limit.take(f"10.{number >> 16}.{(number >> 8) & 255}.{number & 255}")
    assert len(limit) <= 1025


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not an address", "not an address"),
    ],
)
def test_one_host_cannot_be_many_addresses(address: str, key: str) -> None:
    assert limit_key(address) == key


async def test_switched_off_limits_let_everything_through() -> None:
    limits = RateLimits.configured(attestation=False, signing=False)
    assert isinstance(limits.attestation, Unlimited)
    await limits.signing.take("192.0.2.1", 100_000)
    assert isinstance(limits.status, PerAddressLimit)
