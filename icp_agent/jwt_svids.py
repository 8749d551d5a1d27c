"""JWT-SVIDs for workloads: from the cache while they are fresh, else from the server, each asked for once at a time."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from authsec_sdk.errors import SpiffeError, UnavailableError
from authsec_sdk.spiffe import JWTSVID
from authsec_sdk.spire.entries import AuthorizedEntry
from authsec_sdk.spire.svids import IssuedToken
from authsec_sdk.spire.tainted import PublishedBundle
from icp_agent.domain.jwt_cache import CachedJWT, JWTCache, JWTKey
from icp_agent.ports import MalformedAnswerError, ServerAPI

logger = logging.getLogger(__name__)

DEFAULT_LIMIT: Final = 1000
SHORTEST_HIT_TIMEOUT: Final = timedelta(seconds=5)
LONGEST_HIT_TIMEOUT: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class JWTSettings:
    """What an operator may choose. `hit_timeout`: how long a workload waits for a fresher token than the one kept."""

    limit: int = DEFAULT_LIMIT
    hit_timeout: timedelta = SHORTEST_HIT_TIMEOUT


class JWTSVIDs:
    """Belongs to one event loop. Without a server (`served_by`) it hands out what it has."""

    def __init__(self, clock: Callable[[], datetime], settings: JWTSettings) -> None:
        self._clock = clock
        self._settings = settings
        self._cache = JWTCache(settings.limit)
        self._server: ServerAPI | None = None
        self._known: frozenset[str] = frozenset()
        self._doomed: frozenset[str] = frozenset()
        self._cleared = 0
        self._locks: dict[JWTKey, asyncio.Lock] = {}
        self._waiting: Counter[JWTKey] = Counter()

    def __len__(self) -> int:
        return len(self._cache)

    @contextmanager
    def served_by(self, server: ServerAPI) -> Iterator[None]:
        """While open, tokens are asked for there."""
        self._server = server
        try:
            yield
        finally:
            self._server = None

    def take_bundle(self, published: PublishedBundle) -> None:
        """Forget tokens of authorities that are tainted, or that the bundle had and has no more."""
        present = frozenset(published.bundle.jwt_authorities)
        doomed = published.tainted.jwt_key_ids | (self._known - present)
        self._known, self._doomed = present, doomed
        if count := self._cache.drop_signed_by(doomed):
            logger.info("JWT-SVIDs of tainted or revoked authorities dropped count=%d", count)

    def clear(self) -> None:
        """Forget all, as after a ban, and what is being signed at this moment, too."""
        self._cache.clear()
        self._cleared += 1

    async def fetch(self, entry: AuthorizedEntry, audience: Sequence[str]) -> IssuedToken:
        """A JWT-SVID of an entry. Where each token is to have an ID of its own (`jti`), none is handed out twice.

        Raises:
            UnavailableError: there is none and none can be had.
        """
        if entry.jwt_svid_include_jti:
            return (await self._signed(entry, audience, LONGEST_HIT_TIMEOUT)).svid
        key = JWTKey.of(entry.spiffe_id, audience)
        if (kept := self._fresh(key)) is not None:
            return kept
        async with self._turn(key):
            if (kept := self._fresh(key)) is not None:
                return kept
            return await self._renewed(entry, key, audience)

    async def _renewed(self, entry: AuthorizedEntry, key: JWTKey, audience: Sequence[str]) -> IssuedToken:
        cached = self._cache.get(key)
        alive = cached is not None and cached.is_alive(self._clock())
        cleared = self._cleared
        try:
            signed = await self._signed(entry, audience, self._settings.hit_timeout if alive else LONGEST_HIT_TIMEOUT)
        except UnavailableError as error:
            # Looked at again: while we waited it may have expired, or its authority may have been tainted.
            cached = self._cache.get(key)
            if cached is None or not cached.is_alive(self._clock()):
                raise
            logger.warning("JWT-SVID could not be renewed, the one kept is used entry_id=%s error=%s", entry.id, error)
            return cached.svid
        if cleared == self._cleared and signed.key_id not in self._doomed:
            self._cache.put(key, signed)
        return signed.svid

    async def _signed(self, entry: AuthorizedEntry, audience: Sequence[str], within: timedelta) -> CachedJWT:
        server = self._server
        if server is None:
            raise UnavailableError("the agent is not attested")
        try:
            async with asyncio.timeout(within.total_seconds()):
                issued = await server.new_jwt_svid(entry.id, audience)
        except TimeoutError as error:
            raise UnavailableError("the server did not answer in time") from error
        except SpiffeError as error:
            raise UnavailableError(str(error)) from error
        return _checked(issued, entry, self._clock())

    def _fresh(self, key: JWTKey) -> IssuedToken | None:
        cached = self._cache.get(key)
        return cached.svid if cached is not None and cached.is_fresh(self._clock()) else None

    @asynccontextmanager
    async def _turn(self, key: JWTKey) -> AsyncIterator[None]:
        """One at a time for each key; the others find in the cache what the first one got."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._waiting[key] += 1
        try:
            async with lock:
                yield
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key], self._locks[key]


def _checked(issued: IssuedToken, entry: AuthorizedEntry, now: datetime) -> CachedJWT:
    try:
        svid = JWTSVID.unsafe_parse(issued.token)
    except SpiffeError as error:
        raise MalformedAnswerError(f"the server sent a JWT-SVID that cannot be read: {error}") from error
    if not (svid.id == issued.id == entry.spiffe_id):
        raise MalformedAnswerError(f"the server sent a JWT-SVID of {svid.id} for {entry.spiffe_id}")
    if issued.expires_at <= now.timestamp():
        raise MalformedAnswerError("the JWT-SVID expired already: compare the clocks")
    return CachedJWT(issued, svid.key_id)
