from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.spire.renewal import renew_at, should_renew

START = datetime(2026, 1, 1, tzinfo=UTC)
lifetimes = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=400))
jitters = st.floats(-1, 1)


def test_half_life_counts_from_not_before() -> None:
    # 40 s and the issuer's cushion of 10 s: renewed with 25 s left
    assert renew_at(START - timedelta(seconds=10), START + timedelta(seconds=40)) == START + timedelta(seconds=15)


@pytest.mark.parametrize(("jitter", "left"), [(-1.0, 27), (0.0, 30), (1.0, 33)])
def test_jitter_is_a_tenth_of_the_half_life(jitter: float, left: int) -> None:
    end = START + timedelta(seconds=60)
    assert renew_at(START, end, jitter=jitter) == end - timedelta(seconds=left)


@given(lifetimes, jitters)
def test_renewal_falls_between_45_and_55_percent(lifetime: timedelta, jitter: float) -> None:
    moment = renew_at(START, START + lifetime, jitter=jitter)
    slack = timedelta(microseconds=2)
    assert START + lifetime * 0.45 - slack <= moment <= START + lifetime * 0.55 + slack


@given(lifetimes, jitters)
def test_what_has_expired_is_always_renewed(lifetime: timedelta, jitter: float) -> None:
    assert should_renew(START, START + lifetime, START + lifetime, jitter=jitter)


def test_before_and_after() -> None:
    end = START + timedelta(hours=1)
    assert not should_renew(START, end, START + timedelta(minutes=29))
    assert should_renew(START, end, START + timedelta(minutes=30))


def test_dates_the_wrong_way_round_renew_at_once() -> None:
    assert should_renew(START, START - timedelta(hours=1), START)


@pytest.mark.parametrize("jitter", [-1.1, 1.1, float("nan")])
def test_jitter_out_of_range_is_refused(jitter: float) -> None:
    with pytest.raises(ValueError, match="jitter"):
        renew_at(START, START, jitter=jitter)


def test_an_availability_target_renews_early_enough() -> None:
    end = START + timedelta(hours=48)
    target = timedelta(hours=24)
    latest = renew_at(START, end, jitter=-1.0, availability_target=target)
    earliest = renew_at(START, end, jitter=1.0, availability_target=target)
    assert latest <= end - target
    assert earliest < latest


def test_an_availability_target_without_grace_is_ignored() -> None:
    end = START + timedelta(hours=36)
    assert renew_at(START, end, availability_target=timedelta(hours=24)) == START + timedelta(hours=18)
