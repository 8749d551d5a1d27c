"""When lost trust is lost for long enough."""

from datetime import UTC, datetime, timedelta

import pytest

from icp_agent.domain.trust_watch import BootstrapAttempt, Distrust, RebootstrapMode, RebootstrapSettings

NOW = datetime(2030, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("mode", "minutes", "enough"),
    [
        (RebootstrapMode.AUTO, 9, False),
        (RebootstrapMode.AUTO, 10, True),
        (RebootstrapMode.ALWAYS, 10, True),
        (RebootstrapMode.NEVER, 10_000, False),
    ],
)
def test_the_delay_counts_from_the_first_stranger(mode, minutes, enough):
    distrust = Distrust().met_a_stranger(NOW).met_a_stranger(NOW + 5 * MINUTE)
    assert distrust.since == NOW
    assert distrust.is_enough(RebootstrapSettings(mode), NOW + minutes * MINUTE) is enough


def test_without_strangers_it_is_never_enough():
    assert not Distrust().is_enough(RebootstrapSettings(RebootstrapMode.ALWAYS, timedelta()), NOW)


def test_the_words_that_a_service_of_the_host_is_told():
    assert BootstrapAttempt(1, NOW).mode == "bootstrap"
    assert BootstrapAttempt(1, NOW, again=True).mode == "rebootstrap"
