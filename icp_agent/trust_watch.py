"""Watches whether servers are trusted, and says when the bundle the agent has is to be given up."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

from authsec_sdk.errors import UntrustedPeerError
from authsec_sdk.tls import PeerVerificationError
from icp_agent.domain.agent_state import DenialReason
from icp_agent.domain.trust_watch import BootstrapAttempt, Distrust, RebootstrapMode, RebootstrapSettings
from icp_agent.ports import DeniedByServerError

logger = logging.getLogger(__name__)

_UNKNOWN_AUTHORITY: Final = frozenset({1, 2, 7, 18, 19, 20, 21})
"""X509_V_ERR_…: no issuer found, a signature by another key of the same name, a root we do not have; 1: our own."""

_LONGEST_CAUSE: Final = 20


class TrustLostError(DeniedByServerError):
    """No server was trusted for as long as `rebootstrap_delay`: the agent begins with its first trust again."""

    def __init__(self, message: str) -> None:
        super().__init__(DenialReason.UNKNOWN, message)


class TrustWatch:
    """Told of each call how it went; `attempts` counts fetches of the first trust since the last that led somewhere."""

    def __init__(self, settings: RebootstrapSettings, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._clock = clock
        self._distrust = Distrust()
        self._attempt: BootstrapAttempt | None = None
        self._lost = False

    def went_well(self) -> None:
        """A server was trusted."""
        self._distrust = Distrust()
        self._attempt = None

    def failed(self, error: BaseException, *, reattestable: bool) -> None:
        """A call failed: perhaps because the server is a stranger.

        Raises:
            TrustLostError: it has been so for long enough, and this agent is to begin again.
        """
        if not is_unknown_authority(error):
            return
        now = self._clock()
        self._distrust = self._distrust.met_a_stranger(now)
        if not self._distrust.is_enough(self._settings, now):
            if self._settings.mode is not RebootstrapMode.NEVER:
                logger.info(
                    "Trust Bundle and Server don't agree, ignoring for now since=%s delay=%s",
                    self._distrust.since,
                    self._settings.delay,
                )
            return
        if not reattestable:
            report = logger.error if self._settings.mode is RebootstrapMode.ALWAYS else logger.warning
            report(
                "Trust Bundle and Server don't agree, and this node cannot attest again by itself: the NodeAttestor or "
                "the server's configuration does not allow it"
            )
            return
        self._lost = True
        self._distrust = Distrust()
        raise TrustLostError("Trust Bundle and Server don't agree, rebootstrapping") from error

    def next_attempt(self) -> BootstrapAttempt:
        """Count a fetch of the first trust."""
        before = self._attempt
        number, started = (before.number + 1, before.started) if before else (1, self._clock())
        self._attempt = BootstrapAttempt(number, started, again=self._lost)
        return self._attempt


def is_unknown_authority(error: BaseException | None) -> bool:
    """Whether the server's chain leads to no authority of the bundle; not whether it expired, or names another ID."""
    seen = 0
    while error is not None and seen < _LONGEST_CAUSE:
        if isinstance(error, PeerVerificationError):
            return isinstance(error.reason, UntrustedPeerError) and error.verify_code in _UNKNOWN_AUTHORITY
        error = error.__cause__ or error.__context__
        seen += 1
    return False
