"""Attests this node: the first trust, the proof, the SVID, tried again for as long as it takes."""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Final

from authsec_sdk.errors import SpiffeError
from authsec_sdk.spiffe import TrustDomain, X509Bundle
from icp_agent.bootstrap import BootstrapTrust, bootstrap_bundle
from icp_agent.domain.agent_state import Event
from icp_agent.domain.sync_plan import next_pause
from icp_agent.identities import StatusBoard
from icp_agent.keys import PrivateKey, generate_key, signing_request
from icp_agent.node_svid import NodeSVID, keep_on_disk
from icp_agent.ports import AttestationAPI, DeniedByServerError, NodeAttestor, RefusedByServerError
from icp_agent.storage import AgentStorage
from icp_agent.threads import in_thread
from icp_agent.trust_watch import TrustLostError, TrustWatch

logger = logging.getLogger(__name__)

Connect = Callable[[X509Bundle | None], AbstractAsyncContextManager[AttestationAPI]]
"""Opens a connection that believes servers of this bundle; of None: any server."""

_FIRST_PAUSE: Final = timedelta(seconds=1)
_MAXIMUM_PAUSE: Final = timedelta(minutes=1)
_random = random.SystemRandom()


class NodeAttestation:
    """Attests with one attestor against one server."""

    def __init__(
        self,
        attestor: NodeAttestor,
        trust: BootstrapTrust,
        trust_domain: TrustDomain,
        connect: Connect,
        node: NodeSVID,
        storage: AgentStorage,
        board: StatusBoard,
        watch: TrustWatch,
    ) -> None:
        self._attestor = attestor
        self._trust = trust
        self._trust_domain = trust_domain
        self._connect = connect
        self._node = node
        self._storage = storage
        self._board = board
        self._watch = watch
        self._key: PrivateKey | None = None

    async def again(self) -> None:
        """Attest once more, for a new SVID: how a node that may attest as often as it likes renews.

        Raises:
            SpiffeError, OSError: it did not work; the SVID there is stays as it is.
        """
        await self._attest()

    async def until_attested(self, refused: Callable[[], None] = lambda: None) -> None:
        """Try until it works, at ever longer intervals up to a minute. Only being cancelled ends it otherwise.

        `refused` is called each time that the server's answer is no.
        """
        failures = 0
        logger.info("SVID is not found. Starting node attestation trust_domain_id=%s", self._trust_domain.id)
        while True:
            self._board.happened(Event.ATTESTATION_BEGAN, problem=self._board.status.problem)
            try:
                await self._attest()
            except TrustLostError as error:
                failures += 1
                logger.warning("%s", error.message)
                await self._node.forget_bundle()
            except (SpiffeError, OSError) as error:
                failures += 1
                if isinstance(error, RefusedByServerError | DeniedByServerError):
                    refused()
                self._report(error)
            else:
                return
            pause = min(next_pause(_FIRST_PAUSE, failures, _random.uniform(-1, 1)), _MAXIMUM_PAUSE)
            await asyncio.sleep(pause.total_seconds())

    async def _attest(self) -> None:
        try:
            await self._attest_once()
        except (SpiffeError, OSError) as error:
            if self._node.bundle is not None:
                self._watch.failed(error, reattestable=True)
            raise
        self._watch.went_well()

    async def _attest_once(self) -> None:
        # A bundle the server once gave beats the bootstrap one, which may be older or no more than a promise.
        stored = self._node.bundle
        trusted = stored.x509_bundle() if stored is not None else await self._bootstrap()
        async with self._attestor.begin() as attestation:
            key = await self._pending_key()
            async with self._connect(trusted) as server:
                attested = await server.attest(self._attestor.name, attestation, signing_request(key))
        await self._node.attested(attested.svid, key, attested.bundle, again=attested.reattestable)
        self._key = None
        await keep_on_disk(self._storage.forget_pending_key)
        self._board.note(self._board.status.known_as(attested.svid.id))
        self._board.happened(Event.ATTESTED)
        logger.info(
            "Node attestation was successful reattestable=%s spiffe_id=%s", attested.reattestable, attested.svid.id
        )

    async def _bootstrap(self) -> X509Bundle | None:
        attempt = self._watch.next_attempt()
        logger.info("Fetching the first trust mode=%s attempt=%d", attempt.mode, attempt.number)
        bundle = await bootstrap_bundle(self._trust, self._trust_domain, attempt)
        if bundle is not None:
            logger.info("Bundle loaded trust_domain_id=%s", self._trust_domain.id)
        return bundle

    async def _pending_key(self) -> PrivateKey:
        """One key for all attempts, kept over a crash: a server that took the token for it may answer it again."""
        if self._key is None:
            self._key = await in_thread(self._storage.load_pending_key)
        if self._key is None:
            self._key = generate_key()
            await keep_on_disk(self._storage.save_pending_key, self._key)
        return self._key

    def _report(self, error: Exception) -> None:
        logger.error("Failed to attest node, will try again error=%r", str(error))
        banned = "agent is banned" in str(error)
        self._board.happened(Event.BANNED if banned else Event.FAILED, problem=str(error))
