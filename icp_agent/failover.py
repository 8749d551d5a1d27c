"""Several servers as one: what the one in turn cannot answer, the next is asked, before anybody hears of a failure."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from authsec_sdk.spiffe import TrustBundle, TrustDomain
from authsec_sdk.spire.entries import AuthorizedEntry
from authsec_sdk.spire.svids import IssuedToken, IssuedX509SVID
from authsec_sdk.spire.tainted import PublishedBundle
from icp_agent.ports import MalformedAnswerError, ServerAPI, ServerUnavailableError, SigningRefusal, SigningRequest

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Failover:
    """`ServerAPI` over one whose calls go to `servers` servers in turn.

    Every call may be made twice: a renewal or a signature that was made and never arrived is only one more certificate.
    Refusals are answers, and final.
    """

    def __init__(self, server: ServerAPI, servers: int) -> None:
        self._server = server
        self._servers = servers

    async def bundle(self) -> PublishedBundle:
        """See `ServerAPI`."""
        return await self._ask(self._server.bundle)

    async def federated_bundle(self, trust_domain: TrustDomain) -> TrustBundle | None:
        """See `ServerAPI`."""
        return await self._ask(lambda: self._server.federated_bundle(trust_domain))

    async def authorized_entries(self, known: Mapping[str, AuthorizedEntry]) -> Sequence[AuthorizedEntry]:
        """See `ServerAPI`."""
        return await self._ask(lambda: self._server.authorized_entries(known))

    async def sign(self, requests: Sequence[SigningRequest]) -> Sequence[IssuedX509SVID | SigningRefusal]:
        """See `ServerAPI`."""
        return await self._ask(lambda: self._server.sign(requests))

    async def new_jwt_svid(self, entry_id: str, audience: Sequence[str]) -> IssuedToken:
        """See `ServerAPI`."""
        return await self._ask(lambda: self._server.new_jwt_svid(entry_id, audience))

    async def renew(self, csr: bytes) -> IssuedX509SVID:
        """See `ServerAPI`."""
        return await self._ask(lambda: self._server.renew(csr))

    async def post_status(self, version: str) -> None:
        """See `ServerAPI`."""
        await self._ask(lambda: self._server.post_status(version))

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> T:
        for left in range(self._servers - 1, 0, -1):
            try:
                return await call()
            except MalformedAnswerError:
                raise
            except ServerUnavailableError as error:
                logger.info("A server did not answer, asking the next one left=%d error=%s", left, error)
        return await call()
