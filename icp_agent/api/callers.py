"""Who calls: taken from the kernel when the connection is accepted, attested when a call comes, watched as it lasts."""

import logging
import random
from collections.abc import Sequence
from typing import Final

from authsec_sdk.errors import SpiffeError
from authsec_sdk.rpc import GRPCError, Status
from authsec_sdk.rpc.peer import Peer
from authsec_sdk.spire.selectors import Selector
from icp_agent.peer_tracker import WorkloadAttestationError, attest_peer
from icp_agent.ports import WorkloadAttestor
from icp_common.peer_credentials import CallerGoneError, PeerCredentials

logger = logging.getLogger(__name__)

ATTESTATION_SECONDS: Final = 30.0
REATTEST_SECONDS: Final = 60.0
"""A stream outlives what was true when it began: at the latest after this long its caller is attested again."""

_random = random.SystemRandom()


def identify(peer: Peer) -> PeerCredentials:
    """`Server.on_accept`: take the caller's credentials before it can send a byte.

    Raises:
        SpiffeError, OSError: the kernel does not say who it is. The connection is closed then.
    """
    try:
        return PeerCredentials.of(peer.socket)
    except (SpiffeError, OSError) as error:
        logger.warning("Connection refused, its caller cannot be identified error=%r", str(error))
        raise


class Caller:
    """The process behind a call and the selectors attested of it."""

    def __init__(
        self,
        credentials: PeerCredentials,
        attestors: Sequence[WorkloadAttestor],
        reattest_seconds: float = REATTEST_SECONDS,
    ) -> None:
        self._credentials = credentials
        self._attestors = attestors
        self._reattest_seconds = reattest_seconds
        self.selectors: frozenset[Selector] = frozenset()

    @property
    def pid(self) -> int:
        """For logs."""
        return self._credentials.pid

    async def attest(self) -> None:
        """Find out the selectors anew.

        Raises:
            GRPCError: UNAUTHENTICATED if the process is no longer the one that connected, UNAVAILABLE if no attestor
                could say anything.
        """
        try:
            self.selectors = await attest_peer(self._credentials, self._attestors, deadline=ATTESTATION_SECONDS)
        except CallerGoneError as error:
            raise _gone(self.pid, error) from error
        except WorkloadAttestationError as error:
            logger.error("Workload attestation failed pid=%d error=%r", self.pid, str(error))  # noqa: TRY400
            raise GRPCError(Status.UNAVAILABLE, "workload attestation failed") from error
        logger.debug("PID attested to have selectors pid=%d count=%d", self.pid, len(self.selectors))

    def verify_still_same(self) -> None:
        """Cheaper than `attest`: only that the process is still the one that connected.

        Raises:
            GRPCError: UNAUTHENTICATED, it is not.
        """
        try:
            self._credentials.verify_still_same()
        except SpiffeError as error:
            raise _gone(self.pid, error) from error

    def next_attestation(self) -> float:
        """In how many seconds to attest again; spread out, so that many streams do not do it at once."""
        return _random.uniform(0.75, 1.0) * self._reattest_seconds


def _gone(pid: int, error: Exception) -> GRPCError:
    logger.warning("Caller is not the one that connected pid=%d error=%r", pid, str(error))
    return GRPCError(Status.UNAUTHENTICATED, "could not verify existence of the original caller")
