"""Waiting times are jittered over the whole range, capped, and never overflow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.workloadapi.backoff import AFTER_REFUSAL, WITHOUT_AGENT, WITHOUT_IDENTITY, Backoff

RANDOM = st.floats(0, 1, exclude_max=True)


@given(st.integers(-3, 10**9), RANDOM)
def test_an_absent_agent_is_never_waited_for_longer_than_five_seconds(failures: int, random: float) -> None:
    assert 0 <= WITHOUT_AGENT.delay(failures, random) <= 5
    assert 0.25 <= WITHOUT_IDENTITY.delay(failures, random) <= 5
    assert 10 <= AFTER_REFUSAL.delay(failures, random) <= 60


@given(st.integers(1, 100), RANDOM, RANDOM)
def test_jitter_is_full(failures: int, one: float, other: float) -> None:
    backoff = Backoff(base=1, cap=64)
    assert backoff.delay(failures, 0) == 0
    assert (one < other) <= (backoff.delay(failures, one) <= backoff.delay(failures, other))


def test_doubles_up_to_the_cap() -> None:
    backoff = Backoff(base=1, cap=5)
    assert [backoff.delay(failures, 0.5) for failures in (1, 2, 3, 4, 5)] == [0.5, 1, 2, 2.5, 2.5]


@pytest.mark.parametrize(("base", "cap", "floor"), [(0, 1, 0), (2, 1, 0), (1, 2, 3), (1, 2, -1)])
def test_nonsense_is_refused(base: float, cap: float, floor: float) -> None:
    with pytest.raises(ValueError, match="floor <= base <= cap"):
        Backoff(base, cap, floor)
