"""The agent's life: every phase has its answer, every event its effect, and nothing leaves the end."""

from datetime import UTC, datetime, timedelta

import pytest

from authsec_sdk.spiffe import SpiffeID
from icp_agent.domain.agent_state import ANSWERS, TRANSITIONS, AgentStatus, Answer, DenialReason, Event, Phase

START = datetime(2026, 1, 1, tzinfo=UTC)


def after(*events: Event) -> AgentStatus:
    status = AgentStatus(START)
    for number, event in enumerate(events, 1):
        status = status.after(event, START + timedelta(seconds=number))
    return status


def test_every_phase_has_an_answer_and_a_row():
    assert set(ANSWERS) == set(Phase) == set(TRANSITIONS)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.STOPPING])
def test_stopping_is_possible_from_everywhere_and_for_ever(phase):
    assert TRANSITIONS[phase][Event.STOPPED] is Phase.STOPPING
    assert TRANSITIONS[Phase.STOPPING] == {}


@pytest.mark.parametrize(
    ("events", "phase", "answer"),
    [
        ((), Phase.STARTING, Answer.WAIT),
        ((Event.ATTESTATION_BEGAN,), Phase.ATTESTING, Answer.WAIT),
        ((Event.ATTESTATION_BEGAN, Event.FAILED), Phase.ATTESTING, Answer.WAIT),
        ((Event.ATTESTED,), Phase.ATTESTED, Answer.WAIT),
        ((Event.ATTESTED, Event.FAILED), Phase.ATTESTED, Answer.WAIT),
        ((Event.ATTESTED, Event.SYNCED), Phase.READY, Answer.SERVE),
        ((Event.ATTESTED, Event.SYNCED, Event.FAILED), Phase.SERVER_AWAY, Answer.SERVE),
        ((Event.ATTESTED, Event.SYNCED, Event.FAILED, Event.SYNCED), Phase.READY, Answer.SERVE),
        ((Event.ATTESTED, Event.SYNCED, Event.EXPIRED), Phase.EXPIRED, Answer.SERVE),
        ((Event.ATTESTED, Event.SYNCED, Event.EXPIRED, Event.ATTESTATION_BEGAN), Phase.EXPIRED, Answer.SERVE),
        ((Event.ATTESTED, Event.SYNCED, Event.EXPIRED, Event.ATTESTED), Phase.SERVER_AWAY, Answer.SERVE),
        ((Event.ATTESTED, Event.EXPIRED), Phase.ATTESTING, Answer.WAIT),
        ((Event.ATTESTED, Event.SYNCED, Event.FORGOTTEN), Phase.FORGOTTEN, Answer.REFUSE),
        ((Event.ATTESTED, Event.SYNCED, Event.FORGOTTEN, Event.ATTESTED), Phase.ATTESTED, Answer.WAIT),
        ((Event.ATTESTED, Event.SYNCED, Event.BANNED), Phase.BANNED, Answer.DENY),
        ((Event.ATTESTED, Event.SYNCED, Event.BANNED, Event.ATTESTATION_BEGAN), Phase.BANNED, Answer.DENY),
        ((Event.ATTESTED, Event.SYNCED, Event.BANNED, Event.SYNCED), Phase.BANNED, Answer.DENY),
        ((Event.ATTESTED, Event.SYNCED, Event.BANNED, Event.ATTESTED), Phase.ATTESTED, Answer.WAIT),
        ((Event.ATTESTATION_BEGAN, Event.BANNED), Phase.BANNED, Answer.DENY),
        ((Event.STOPPED,), Phase.STOPPING, Answer.REFUSE),
    ],
)
def test_where_events_lead(events, phase, answer):
    status = after(*events)
    assert status.phase is phase
    assert status.answer is answer


@pytest.mark.parametrize(
    ("reason", "event"),
    [
        (DenialReason.UNKNOWN, Event.FAILED),
        (DenialReason.AGENT_EXPIRED, Event.EXPIRED),
        (DenialReason.AGENT_NOT_ATTESTED, Event.FORGOTTEN),
        (DenialReason.AGENT_NOT_ACTIVE, Event.FORGOTTEN),
        (DenialReason.AGENT_BANNED, Event.BANNED),
        (DenialReason.AGENT_MUST_REATTEST, Event.EXPIRED),
    ],
)
def test_what_denials_mean(reason, event):
    assert reason.event is event


def test_only_a_ban_denies_identities_for_good():
    assert [phase for phase in Phase if ANSWERS[phase] is Answer.DENY] == [Phase.BANNED]


def test_healthy_is_ready_or_serving_without_the_server():
    assert after(Event.ATTESTED, Event.SYNCED).healthy
    assert after(Event.ATTESTED, Event.SYNCED, Event.FAILED).healthy
    assert not after(Event.ATTESTED).healthy
    assert not after(Event.ATTESTED, Event.SYNCED, Event.EXPIRED).healthy


def test_since_is_the_last_change_of_phase():
    status = after(Event.ATTESTED, Event.SYNCED, Event.SYNCED, Event.SYNCED)
    assert status.since == START + timedelta(seconds=2)
    assert status.last_sync == START + timedelta(seconds=4)


def test_the_text_says_where_it_stands_and_not_what_went_wrong():
    status = after(Event.ATTESTED, Event.SYNCED).known_as(SpiffeID.parse("spiffe://example.org/spire/agent/x/1"))
    status = status.after(Event.FAILED, START + timedelta(hours=1), problem="connection refused by 10.0.0.1")
    assert str(status) == (
        "server away, serving what is cached since 2026-01-01T01:00:00Z, agent spiffe://example.org/spire/agent/x/1, "
        "last sync 2026-01-01T00:00:02Z"
    )
    assert status.problem == "connection refused by 10.0.0.1"


def test_success_clears_the_problem():
    assert AgentStatus(START, problem="x").after(Event.SYNCED, START).problem == ""
