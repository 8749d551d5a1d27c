"""X509-SVIDs: in batches for agents, one by one for administrators."""

from __future__ import annotations

from collections.abc import Sequence

from icp_server.domain.agent import Agent
from icp_server.domain.issued import IssuedSVID, NewX509SVID
from icp_server.domain.results import ItemResult
from icp_server.ports import Clock, Store, X509Signer
from icp_server.services.entries import EntryService


class SVIDService:
    """The SVID API's use cases over one trust domain."""

    def __init__(self, store: Store, signer: X509Signer, entries: EntryService, clock: Clock) -> None:
        self._store = store
        self._signer = signer
        self._entries = entries
        self._clock = clock

    async def batch_new_x509(self, agent: Agent, items: Sequence[NewX509SVID]) -> list[ItemResult[IssuedSVID]]:
        """Sign an SVID for each item whose entry the agent is authorized for, in order.

        Raises:
            InvalidArgument: there is no item.
            ResourceExhausted: there are more than MAX_BATCH.
        """
        raise NotImplementedError

    async def mint_x509(self, csr: bytes, ttl: int) -> IssuedSVID:
        """Sign what an administrator's CSR names; ``ttl`` ≤ 0 means the default.

        Raises:
            InvalidArgument: the CSR is missing or wrong, or names what may not be signed.
        """
        raise NotImplementedError
