"""What a running server has to say about itself, for whoever looks into it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from authsec_sdk.spiffe import X509SVID
from icp_server.domain.errors import Internal, NotFound
from icp_server.domain.filters import AgentFilter, EntryFilter
from icp_server.ports import Clock, Store

KEPT: Final = timedelta(seconds=5)
"""How long an answer is given again, as upstream does: it counts rows."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The answer; `svid_chain` begins with the server's own certificate and ends with a root."""

    svid_chain: tuple[x509.Certificate, ...]
    uptime: timedelta
    agents: int
    entries: int
    bundles: int


class ServerInfoService:
    """The Debug API's use case. `identity` is the X509-SVID that the server shows now."""

    def __init__(self, store: Store, identity: Callable[[], X509SVID], clock: Clock) -> None:
        self._store = store
        self._identity = identity
        self._clock = clock
        self._started = clock()
        self._lock = asyncio.Lock()
        self._kept: tuple[datetime, ServerInfo] | None = None

    async def get(self) -> ServerInfo:
        """Tell; an answer of the last seconds is given again.

        Raises:
            NotFound: there is no bundle.
            Internal: the database failed, or the server's SVID does not lead to its bundle.
        """
        async with self._lock:
            now = self._clock()
            if self._kept is None or not timedelta() <= now - self._kept[0] < KEPT:
                self._kept = (now, await self._ask(now))
            return self._kept[1]

    async def _ask(self, now: datetime) -> ServerInfo:
        bundle = await self._store.bundles.get(self._store.trust_domain)
        if bundle is None:
            raise NotFound("trust domain bundle not found")
        return ServerInfo(
            _chain(self._identity().certificates, bundle.x509_authorities),
            now - self._started,
            await self._store.agents.count(AgentFilter()),
            await self._store.entries.count(EntryFilter()),
            await self._store.bundles.count(),
        )


def _chain(shown: tuple[x509.Certificate, ...], roots: tuple[x509.Certificate, ...]) -> tuple[x509.Certificate, ...]:
    last = shown[-1]
    for root in roots:
        try:
            last.verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return (*shown, root)
    raise Internal("failed verification against bundle: no authority in it signed the server's X509-SVID")
