"""Waiting times are jittered over the whole range, capped, and never overflow."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.workloadapi.backoff import (
    AFTER_REFUSAL,
    LONGEST,
    SHORTEST,
    WITHOUT_AGENT,
    WITHOUT_IDENTITY,
    Backoff,
    delay_of,
)

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


class Says:
    """A strategy of somebody's own."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def delay(self, failures: int, random: float, /) -> Any:
        del failures, random
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@given(st.floats() | st.integers() | st.none() | st.text() | st.just(RuntimeError()), RANDOM)
def test_whatever_a_strategy_says_the_wait_is_within_bounds(answer: Any, random: float) -> None:
    assert SHORTEST <= delay_of(Says(answer), 3, random) <= LONGEST


@given(st.floats(SHORTEST, LONGEST), RANDOM)
def test_what_makes_sense_is_done(answer: float, random: float) -> None:
    assert delay_of(Says(answer), 1, random) == answer
