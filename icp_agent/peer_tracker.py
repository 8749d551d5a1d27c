"""From a caller to its selectors: all attestors side by side, and the caller the same one before and after."""

import logging
from collections.abc import Sequence

import anyio

from authsec_sdk.errors import UnavailableError
from authsec_sdk.spire.selectors import Selector
from icp_agent.ports import WorkloadAttestor
from icp_common.peer_credentials import CallerGoneError, PeerCredentials
from icp_common.process import ProcessFacts, ProcessUnreadableError
from icp_common.telemetry import Counter, Telemetry

__all__ = ["CallerGoneError", "WorkloadAttestationError", "attest_peer"]

_log = logging.getLogger(__name__)


class WorkloadAttestationError(UnavailableError):
    """No attestor could say anything about the caller; the log of this daemon says why for each."""


async def attest_peer(
    credentials: PeerCredentials,
    attestors: Sequence[WorkloadAttestor],
    *,
    deadline: float,
    telemetry: Telemetry | None = None,
) -> frozenset[Selector]:
    """All selectors the attestors vouch for; one that fails or exceeds `deadline` seconds is logged and counted.

    What holds: when this returns, the process that connected still lives, runs the program it ran, and has the user,
    group, supplementary groups and mount namespace it had when this was called.

    Raises:
        CallerGoneError: it does not.
        WorkloadAttestationError: every attestor failed, or /proc does not show the caller.
    """
    failures = (telemetry or Telemetry()).counter(
        "workload_attestor_failures_total", "Attestations one attestor failed, by attestor"
    )
    before = _look(credentials)
    found: dict[str, frozenset[Selector]] = {}

    async def attest(attestor: WorkloadAttestor) -> None:
        selectors = await _attest_one(attestor, credentials, deadline, failures)
        if selectors is not None:
            found[attestor.name] = selectors

    async with anyio.create_task_group() as group:
        for attestor in attestors:
            group.start_soon(attest, attestor)
    if not _look(credentials).same_as(before):
        raise CallerGoneError(f"process {credentials.pid} changed while it was attested")
    if not found:
        raise WorkloadAttestationError("workload attestation failed")
    return frozenset().union(*found.values())


async def _attest_one(
    attestor: WorkloadAttestor, credentials: PeerCredentials, deadline: float, failures: Counter
) -> frozenset[Selector] | None:
    reason: object
    try:
        with anyio.fail_after(deadline):
            selectors = await attestor.attest(credentials)
        if all(selector.type == attestor.name for selector in selectors):
            return selectors
        reason = "it vouched for selectors of another attestor"
    except TimeoutError:
        reason = f"no answer within {deadline:g} s"
    except Exception as error:  # noqa: BLE001 - one attestor's failure must not cost the others' selectors
        reason = repr(error)
    failures.increment(attestor=attestor.name)
    _log.error("Workload attestor failed attestor=%s pid=%d reason=%s", attestor.name, credentials.pid, reason)
    return None


def _look(credentials: PeerCredentials) -> ProcessFacts:
    try:
        return credentials.verify_still_same()
    except ProcessUnreadableError as error:
        raise WorkloadAttestationError(str(error)) from error
