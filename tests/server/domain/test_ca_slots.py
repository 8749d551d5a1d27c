"""The life of authorities in their slots, step by step and over long times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icp_server.domain import ca_slots as slots
from icp_server.domain.ca_slots import AuthorityRecord, CAJournal, Event, IllegalTransition, Status, Step

T0 = datetime(2026, 7, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def record(
    authority_id: str, slot: str = "A", status: Status = Status.PREPARED, life: timedelta = DAY, at: datetime = T0
) -> AuthorityRecord:
    return AuthorityRecord(authority_id, slot, status, at, at + life, b"der")


def all_of(journal: CAJournal) -> frozenset[str]:
    return frozenset(known.authority_id for known in journal.records)


def active(life: timedelta = DAY) -> CAJournal:
    return CAJournal().prepared(record("aa", life=life)).activated("aa")


@pytest.mark.parametrize(
    ("life", "prepare", "activate"),
    [
        (timedelta(hours=24), timedelta(hours=12), timedelta(hours=4)),
        (timedelta(minutes=1), timedelta(seconds=30), timedelta(seconds=10)),
        (timedelta(days=365), timedelta(days=30), timedelta(days=7)),
        (timedelta(days=60), timedelta(days=30), timedelta(days=7)),
    ],
)
def test_thresholds(life: timedelta, prepare: timedelta, activate: timedelta) -> None:
    assert slots.prepare_threshold(life) == prepare
    assert slots.activate_threshold(life) == activate
    assert slots.longest_svid_ttl(life) == activate


@pytest.mark.parametrize(
    ("with_prepared", "remaining", "step"),
    [
        (False, timedelta(hours=12, seconds=1), Step.NOTHING),
        (False, timedelta(hours=12), Step.PREPARE),
        (False, timedelta(hours=1), Step.PREPARE),
        (True, timedelta(hours=12), Step.NOTHING),
        (True, timedelta(hours=4, seconds=1), Step.NOTHING),
        (True, timedelta(hours=4), Step.ACTIVATE),
        (True, timedelta(0), Step.ACTIVATE),
        (False, timedelta(0), Step.PREPARE),
    ],
)
def test_what_is_due(with_prepared: bool, remaining: timedelta, step: Step) -> None:
    journal = active()
    if with_prepared:
        journal = journal.prepared(record("bb", "B", life=2 * DAY))
    assert slots.next_step(journal, T0 + DAY - remaining, all_of(journal)) is step


def test_at_the_very_beginning_one_is_prepared_and_activated() -> None:
    assert slots.next_step(CAJournal(), T0, frozenset()) is Step.PREPARE
    journal = CAJournal().prepared(record("aa"))
    assert slots.next_step(journal, T0, frozenset({"aa"})) is Step.ACTIVATE


def test_an_authority_whose_key_is_lost_counts_as_absent() -> None:
    journal = active().prepared(record("bb", "B"))
    assert slots.next_step(journal, T0, frozenset({"bb"})) is Step.ACTIVATE
    assert slots.next_step(journal, T0, frozenset()) is Step.PREPARE
    late = T0 + DAY - timedelta(hours=1)
    assert slots.next_step(journal, late, frozenset({"aa"})) is Step.PREPARE


def test_an_expired_prepared_authority_is_not_activated() -> None:
    journal = active(2 * DAY).prepared(record("bb", "B", life=timedelta(hours=1)))
    assert slots.next_step(journal, T0 + 2 * DAY, all_of(journal)) is Step.PREPARE


def test_slots_take_turns() -> None:
    assert slots.slot_to_prepare(CAJournal()) == "A"
    assert slots.slot_to_prepare(active()) == "B"
    second = active().prepared(record("bb", "B")).activated("bb")
    assert slots.slot_to_prepare(second) == "A"


def test_activation_makes_the_one_before_old() -> None:
    journal = active().prepared(record("bb", "B")).activated("bb")
    assert [(known.authority_id, known.status) for known in journal.records] == [
        ("aa", Status.OLD),
        ("bb", Status.ACTIVE),
    ]


def test_a_second_preparation_replaces_the_first() -> None:
    journal = active().prepared(record("bb", "B")).prepared(record("cc", "B"))
    assert [known.status for known in journal.records] == [Status.ACTIVE, Status.OLD, Status.PREPARED]
    assert journal.having(Status.PREPARED) == record("cc", "B")


def test_every_step_outside_the_table_is_refused() -> None:
    with pytest.raises(IllegalTransition):
        active().prepared(record("bb", "A"))  # the active one's slot
    with pytest.raises(IllegalTransition):
        active().activated("aa")
    with pytest.raises(IllegalTransition):
        active().activated("zz")
    with pytest.raises(IllegalTransition):
        CAJournal().prepared(record("aa", status=Status.ACTIVE))
    assert set(slots.TRANSITIONS) == {
        (Status.PREPARED, Event.ACTIVATE),
        (Status.PREPARED, Event.DISPLACE),
        (Status.ACTIVE, Event.SUPERSEDE),
        (Status.OLD, Event.SUPERSEDE),
        (Status.OLD, Event.DISPLACE),
    }


def test_an_abandoned_authority_frees_its_slot() -> None:
    journal = active().abandoned("aa").prepared(record("bb", "A"))
    assert [known.status for known in journal.records] == [Status.OLD, Status.PREPARED]


def test_expired_records_go_but_never_the_active_one() -> None:
    journal = active().prepared(record("bb", "B", life=3 * DAY)).activated("bb")
    assert all_of(journal.without_expired(T0 + 2 * DAY)) == {"bb"}
    assert all_of(journal.without_expired(T0 + 9 * DAY)) == {"bb"}


@given(
    life=st.timedeltas(min_value=timedelta(minutes=1), max_value=timedelta(days=400)),
    ticks=st.lists(st.floats(min_value=0.001, max_value=0.9), min_size=1, max_size=60),
)
def test_over_any_time_there_is_one_active_authority_in_force(life: timedelta, ticks: list[float]) -> None:
    """However late the ticks come: after each one, an unexpired active authority, and never two in one slot."""
    journal, now, made = CAJournal(), T0, 0
    usable: set[str] = set()
    for share in ticks:
        for _ in range(4):
            step = slots.next_step(journal, now, frozenset(usable))
            if step is Step.NOTHING:
                break
            if step is Step.PREPARE:
                made += 1
                journal = journal.prepared(record(f"{made:02x}", slots.slot_to_prepare(journal), life=life, at=now))
                usable.add(f"{made:02x}")
            else:
                prepared = journal.having(Status.PREPARED)
                assert prepared is not None
                journal = journal.activated(prepared.authority_id)
        assert slots.next_step(journal, now, frozenset(usable)) is Step.NOTHING
        running = [known for known in journal.records if known.status is Status.ACTIVE]
        assert len(running) == 1
        assert running[0].not_after > now
        alive = [known.slot for known in journal.records if known.status is not Status.OLD]
        assert len(alive) == len(set(alive))
        assert len(journal.records) <= slots.MAX_RECORDS
        now += life * share


def test_a_ca_that_lives_long_enough_signs_every_leaf_in_full() -> None:
    ttl = timedelta(hours=4)
    needed = slots.shortest_ca_ttl(ttl)
    assert needed is not None
    assert slots.longest_svid_ttl(needed) == ttl
    assert slots.shortest_ca_ttl(timedelta(days=7, seconds=1)) is None
