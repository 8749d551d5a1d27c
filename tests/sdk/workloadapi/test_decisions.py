"""The pure decisions: when a row of failures ends, what is logged, which SVID is used."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.errors import CallerError, NoIdentityError
from authsec_sdk.spiffe import X509SVID, BundleSet, X509Context
from authsec_sdk.testing import TestCA
from authsec_sdk.workloadapi.choice import choose
from authsec_sdk.workloadapi.failure import BACKOFFS, FailureKind
from authsec_sdk.workloadapi.repeats import Repeats
from authsec_sdk.workloadapi.status import SourcePhase, SourceState, state_of
from authsec_sdk.workloadapi.watch import STABLE_AFTER, Retries

CA = TestCA()
A, B, C = CA.svid("/a"), CA.svid("/b", hint="internal"), CA.svid("/c", hint="external")
CONTEXT = X509Context((A, B, C), BundleSet.of(CA.bundle()))


def test_failures_of_one_kind_add_up_and_another_kind_begins_anew() -> None:
    retries = Retries()
    assert retries.wait(BACKOFFS, 0.99) == 0
    for count in (1, 2, 3):
        retries = retries.after(FailureKind.UNAVAILABLE, delivered=False, lived=0)
        assert retries == Retries(FailureKind.UNAVAILABLE, count)
    assert retries.after(FailureKind.NO_IDENTITY, delivered=False, lived=0).failures == 1


def test_only_a_stream_that_delivered_and_lived_ends_a_row() -> None:
    row = Retries(FailureKind.UNAVAILABLE, 7)
    assert row.after(FailureKind.UNAVAILABLE, delivered=True, lived=STABLE_AFTER).failures == 1
    assert row.after(FailureKind.UNAVAILABLE, delivered=True, lived=0.1).failures == 8
    assert row.after(FailureKind.UNAVAILABLE, delivered=False, lived=1e6).failures == 8


@given(st.lists(st.sampled_from(FailureKind), min_size=1), st.floats(0, 1, exclude_max=True))
def test_an_agent_that_may_be_back_is_asked_within_five_seconds(kinds: list[FailureKind], random: float) -> None:
    retries = Retries()
    for kind in kinds:
        retries = retries.after(kind, delivered=False, lived=0)
    wait = retries.wait(BACKOFFS, random)
    assert wait <= (60 if kinds[-1] is FailureKind.REFUSED else 5)


def test_each_distinct_error_is_told_once_and_then_at_powers_of_ten() -> None:
    repeats = Repeats()
    told = [count for _ in range(1000) if (count := repeats.note("gone")) is not None]
    assert told == [1, 10, 100, 1000]
    assert repeats.note("denied") == 1
    assert repeats.note("gone") is None
    assert repeats.clear() == 1002
    assert repeats.note("gone") == 1


def test_errors_that_take_turns_are_not_told_each_time() -> None:
    repeats = Repeats()
    assert [repeats.note(text) for text in ["a", "b"] * 4] == [1, 1, None, None, None, None, None, None]


def test_texts_that_always_differ_are_bounded() -> None:
    repeats = Repeats()
    told = [repeats.note(f"at {number}") for number in range(1000)]
    assert sum(count is not None for count in told) < 40


def test_the_first_svid_is_used_unless_told_otherwise() -> None:
    assert choose(CONTEXT, None, None) is CONTEXT


def test_the_chosen_svid_comes_first_and_none_is_lost() -> None:
    assert choose(CONTEXT, None, "external").svids == (C, A, B)
    assert choose(CONTEXT, lambda svids: svids[1], None).svids == (B, A, C)
    assert choose(CONTEXT, None, "").svids == (A, B, C)


def test_a_hint_nobody_has_names_those_there_are() -> None:
    with pytest.raises(NoIdentityError, match=r"'internal' \(spiffe://example\.org/b\)"):
        choose(CONTEXT, None, "public")


def _fails(svids: tuple[X509SVID, ...]) -> X509SVID:
    raise LookupError("none of mine")


@pytest.mark.parametrize(
    ("picker", "words"),
    [
        (lambda svids: None, "not NoneType"),
        (lambda svids: CA.svid("/else"), "one of the SVIDs it was given"),
        (_fails, "LookupError: none of mine"),
    ],
)
def test_a_picker_that_does_not_pick_is_the_callers_error(picker: object, words: str) -> None:
    with pytest.raises(CallerError, match=words):
        choose(CONTEXT, picker, None)  # type: ignore[arg-type]


NOW = datetime(2030, 1, 1, tzinfo=UTC)
SOON, PAST = NOW + timedelta(seconds=1), NOW - timedelta(seconds=1)


@pytest.mark.parametrize(
    ("phase", "known", "failures", "expires_at", "state"),
    [
        (SourcePhase.NEW, False, 0, None, SourceState.INITIALIZING),
        (SourcePhase.CONNECTING, False, 0, None, SourceState.INITIALIZING),
        (SourcePhase.CONNECTING, False, 3, None, SourceState.FAILED),
        (SourcePhase.UNAVAILABLE, False, 1, None, SourceState.FAILED),
        (SourcePhase.NO_IDENTITY, False, 1, None, SourceState.FAILED),
        (SourcePhase.REFUSED, False, 1, None, SourceState.FAILED),
        (SourcePhase.CONNECTED, True, 0, SOON, SourceState.READY),
        (SourcePhase.CONNECTED, True, 0, None, SourceState.READY),
        (SourcePhase.CONNECTED, True, 0, NOW, SourceState.EXPIRED),
        (SourcePhase.UNAVAILABLE, True, 1, PAST, SourceState.EXPIRED),
        (SourcePhase.UNAVAILABLE, True, 1, SOON, SourceState.STALE),
        (SourcePhase.NO_IDENTITY, True, 1, SOON, SourceState.STALE),
        (SourcePhase.NEW, True, 0, None, SourceState.STALE),
        (SourcePhase.CLOSED, False, 0, None, SourceState.CLOSED),
        (SourcePhase.CLOSED, True, 0, PAST, SourceState.CLOSED),
    ],
)
def test_the_table_of_states(
    phase: SourcePhase, known: bool, failures: int, expires_at: datetime | None, state: SourceState
) -> None:
    assert state_of(phase, known=known, failures=failures, expires_at=expires_at, now=NOW) is state
