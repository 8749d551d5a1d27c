"""The agent's own SVID: kept on disk, shown to the server, renewed at half its life, or attested for anew."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final, Never, ParamSpec

from authsec_sdk.errors import InvalidX509SVIDError, SpiffeError
from authsec_sdk.spiffe import X509SVID, BundleSet, TrustBundle, TrustDomain, X509Context, X509ContextHolder
from authsec_sdk.spiffe.verify import verify_chain
from authsec_sdk.spire.renewal import should_renew
from authsec_sdk.spire.reserved_ids import is_agent_id
from authsec_sdk.spire.svids import IssuedX509SVID
from icp_agent.domain.agent_state import DenialReason
from icp_agent.domain.authority_keys import authority_key_id
from icp_agent.domain.sync_plan import next_pause
from icp_agent.keys import PrivateKey, generate_key, signing_request, svid_of
from icp_agent.ports import (
    DeniedByServerError,
    MalformedAnswerError,
    ServerAPI,
)
from icp_agent.storage import AgentStorage, StorageError, StoredSVID
from icp_agent.threads import in_thread

logger = logging.getLogger(__name__)

_CHECK_EVERY: Final = timedelta(seconds=5)
_SHORTEST_SLEEP: Final = 0.2
_random = random.SystemRandom()
P = ParamSpec("P")


class NodeSVID:
    """Holds the agent's SVID and its trust domain's bundle, on disk and for TLS, and keeps both in step.

    What is written comes first, what is used second: after a crash at any moment the disk has an SVID that the server
    still accepts. TLS connections take SVID and bundle from `holder`, which is another one after `forget`.
    """

    def __init__(
        self,
        storage: AgentStorage,
        trust_domain: TrustDomain,
        clock: Callable[[], datetime],
        *,
        availability_target: timedelta = timedelta(),
    ) -> None:
        self.holder = X509ContextHolder()
        self._storage = storage
        self._trust_domain = trust_domain
        self._clock = clock
        self._availability_target = availability_target
        self._stored: StoredSVID | None = None
        self._bundle: TrustBundle | None = None
        self._tainted: frozenset[bytes] = frozenset()

    @property
    def svid(self) -> X509SVID | None:
        """The SVID in use, expired or not."""
        return self._stored.svid if self._stored is not None else None

    @property
    def bundle(self) -> TrustBundle | None:
        """The trust bundle the server gave last, if it ever gave one."""
        return self._bundle

    @property
    def reattestable(self) -> bool:
        """Whether the node may attest as often as it likes, as the server said when it last did."""
        return self._stored is not None and self._stored.reattestable

    async def load(self) -> bool:
        """Take up what an earlier run left; whether there is an SVID that has not expired.

        Raises:
            StorageError: what is on disk is damaged, or not this agent's.
        """
        self._bundle = await in_thread(self._storage.load_bundle)
        stored = await in_thread(self._storage.load_svid)
        if stored is not None and stored.svid.is_expired(self._clock()):
            logger.warning("The stored agent SVID expired agent_id=%s", stored.svid.id)
            stored = None
        if self._bundle is None:
            stored = None  # without a bundle nothing can be called with it
        self._stored = stored
        self._publish()
        return stored is not None

    async def attested(self, issued: IssuedX509SVID, key: PrivateKey, bundle: TrustBundle, *, again: bool) -> None:
        """Take up what attestation gave; `again`: this node may attest as often as it likes.

        Raises:
            MalformedAnswerError: the SVID is not an agent's of our trust domain, not our key's, or not of the bundle.
        """
        svid = self._checked(issued, key, bundle, wanted=None)
        await keep_on_disk(self._storage.save_bundle, bundle)
        await keep_on_disk(self._storage.save_svid, StoredSVID(svid, again))
        self._bundle, self._stored = bundle, StoredSVID(svid, again)
        self._publish()

    async def take_bundle(self, bundle: TrustBundle) -> None:
        """Trust what the server says its trust domain's authorities are now."""
        if bundle == self._bundle:
            return
        await keep_on_disk(self._storage.save_bundle, bundle)
        self._bundle = bundle
        self._publish()

    def taint(self, key_ids: frozenset[bytes]) -> None:
        """Replace the SVID at the next check if one of these X.509 authorities signed it."""
        self._tainted = key_ids

    async def forget(self) -> None:
        """Drop the SVID, on disk too: the server does not accept it any more. The bundle stays."""
        self._stored = None
        self.holder.close()
        self.holder = X509ContextHolder()
        await keep_on_disk(self._storage.forget_svid)

    async def forget_bundle(self) -> None:
        """Drop the trust bundle, on disk too: no server has been trusted by it for too long."""
        self._bundle = None
        await keep_on_disk(self._storage.forget_bundle)

    async def keep_fresh(
        self,
        server: ServerAPI,
        attest_again: Callable[[], Awaitable[None]],
        on_renewed: Callable[[], Awaitable[None]],
    ) -> Never:
        """Renew at half-life for ever; `on_renewed` makes connections use the new SVID.

        Where the node is reattestable, the server refuses to renew: `attest_again` takes the place of both.

        Raises:
            DeniedByServerError: the server denies the agent, or the SVID expired before it could be renewed.
        """
        failures, not_before = 0, self._clock()
        while True:
            svid = self.svid
            now = self._clock()
            if svid is None or svid.is_expired(now):
                raise DeniedByServerError(DenialReason.AGENT_EXPIRED, "the agent's own SVID expired")
            if now >= not_before and self._due(svid, now):
                try:
                    if self.reattestable:
                        await attest_again()
                    else:
                        await self._renew(server, svid)
                        await on_renewed()
                    failures = 0
                except DeniedByServerError:
                    raise
                except (SpiffeError, OSError) as error:
                    failures += 1
                    not_before = self._clock() + next_pause(_CHECK_EVERY, failures, _random.uniform(-1, 1))
                    logger.error(  # noqa: TRY400 - expected
                        "Unable to renew agent SVID error=%r expires=%s", str(error), svid.not_after
                    )
            await asyncio.sleep(self._until_next_check())

    async def _renew(self, server: ServerAPI, svid: X509SVID) -> None:
        key = generate_key()
        issued = await server.renew(signing_request(key))
        # The server may sign by an authority that is new since the last sync.
        bundle = (await server.bundle()).bundle
        assert self._stored is not None
        renewed = StoredSVID(self._checked(issued, key, bundle, wanted=svid), self._stored.reattestable)
        await self.take_bundle(bundle)
        await keep_on_disk(self._storage.save_svid, renewed)
        self._stored = renewed
        self._publish()
        logger.info("Renewed agent SVID agent_id=%s expires=%s", renewed.svid.id, renewed.svid.not_after)

    def _checked(
        self, issued: IssuedX509SVID, key: PrivateKey, bundle: TrustBundle, *, wanted: X509SVID | None
    ) -> X509SVID:
        bundles = BundleSet.of(bundle.x509_bundle())
        try:
            svid = svid_of(issued, key, wanted=wanted.id if wanted is not None else None)
            verify_chain(svid.certificates, bundles, at=self._clock())
            if not svid.id.member_of(self._trust_domain) or not is_agent_id(svid.id):
                raise InvalidX509SVIDError(f"{svid.id} is no agent's ID in {self._trust_domain}")
        except SpiffeError as error:
            raise MalformedAnswerError(f"the server sent an SVID this agent cannot use: {error}") from error
        return svid

    def _due(self, svid: X509SVID, now: datetime) -> bool:
        return authority_key_id(svid) in self._tainted or should_renew(
            svid.not_before,
            svid.not_after,
            now,
            jitter=_random.uniform(-1, 1),
            availability_target=self._availability_target,
        )

    def _until_next_check(self) -> float:
        """At most 5 s; less for an SVID that lives so briefly that 5 s would be much of its life."""
        if (svid := self.svid) is None:
            return _SHORTEST_SLEEP
        twentieth = (svid.not_after - svid.not_before) / 20
        return max(min(twentieth, _CHECK_EVERY).total_seconds(), _SHORTEST_SLEEP)

    def _publish(self) -> None:
        if self._stored is not None and self._bundle is not None:
            self.holder.publish(X509Context((self._stored.svid,), BundleSet.of(self._bundle.x509_bundle())))


async def keep_on_disk(save: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Write or remove state, and go on if it fails: a full disk must not end what is still good in memory."""
    try:
        await in_thread(save, *args, **kwargs)
    except (OSError, StorageError) as error:
        # After a restart this node attests again.
        logger.error("Unable to keep the agent's state on disk error=%s", error)  # noqa: TRY400
