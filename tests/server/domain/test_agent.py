"""The judgement about an agent's certificate, and what it does to its record."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from authsec_sdk.spiffe import SpiffeID
from icp_server.domain.agent import Agent, Standing, judge, promoted
from icp_server.domain.errors import AgentDenied, DenialReason

NOW = datetime(2026, 7, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
ID = SpiffeID.parse("spiffe://example.org/spire/agent/join_token/a")
AGENT = Agent(ID, "join_token", "11", 1, "22", 2)


def test_current_and_new_certificates_are_accepted() -> None:
    assert judge(AGENT, ID, "11", LATER, NOW) is Standing.CURRENT
    assert judge(AGENT, ID, "22", LATER, NOW) is Standing.NEW


@pytest.mark.parametrize(
    ("agent", "serial_number", "not_after", "reason"),
    [
        (AGENT, "11", NOW, DenialReason.AGENT_EXPIRED),
        (None, "11", NOW, DenialReason.AGENT_EXPIRED),
        (None, "11", LATER, DenialReason.AGENT_NOT_ATTESTED),
        (replace(AGENT, serial_number="", new_serial_number=""), "11", LATER, DenialReason.AGENT_BANNED),
        (replace(AGENT, serial_number=""), "22", LATER, DenialReason.AGENT_BANNED),
        (AGENT, "33", LATER, DenialReason.AGENT_NOT_ACTIVE),
        (AGENT, "", LATER, DenialReason.AGENT_NOT_ACTIVE),
        (replace(AGENT, new_serial_number=""), "", LATER, DenialReason.AGENT_NOT_ACTIVE),
    ],
)
def test_everything_else_is_refused_with_its_reason(
    agent: Agent | None, serial_number: str, not_after: datetime, reason: DenialReason
) -> None:
    with pytest.raises(AgentDenied) as caught:
        judge(agent, ID, serial_number, not_after, NOW)
    assert caught.value.reason is reason
    assert str(ID) in caught.value.message


def test_after_promotion_the_old_certificate_is_refused() -> None:
    after = promoted(AGENT)
    assert judge(after, ID, "22", LATER, NOW) is Standing.CURRENT
    assert after.expires_at == 2
    with pytest.raises(AgentDenied):
        judge(after, ID, "11", LATER, NOW)
