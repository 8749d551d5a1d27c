"""The JWT-SVIDs this agent keeps for its workloads: by whose they are and for whom, the least used ones go first."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.svids import IssuedToken

MAXIMUM_TOKEN: Final = 16 * 1024
"""Characters. A token is as long as the audience that a workload asks for, and its key has nothing but names in it."""


@dataclass(frozen=True, slots=True)
class JWTKey:
    """What a JWT-SVID is kept under: in whatever order its audience was asked for (as SPIRE has it)."""

    spiffe_id: SpiffeID
    audience: tuple[str, ...]

    @classmethod
    def of(cls, spiffe_id: SpiffeID, audience: Sequence[str]) -> Self:
        """The key of a request. Empty names are left out, as servers do."""
        return cls(spiffe_id, tuple(sorted(name for name in audience if name)))


@dataclass(frozen=True, slots=True)
class CachedJWT:
    """A JWT-SVID and the ID of the authority that signed it."""

    svid: IssuedToken
    key_id: str | None

    def is_fresh(self, now: datetime) -> bool:
        """Whether less than half its life is over: from then on another one is asked for."""
        return now.timestamp() < (self.svid.issued_at + self.svid.expires_at) / 2

    def is_alive(self, now: datetime) -> bool:
        """Whether it has not expired."""
        return now.timestamp() < self.svid.expires_at


class JWTCache:
    """At most `limit` JWT-SVIDs, none of them very long. Whether one may still be used is for who asks."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[JWTKey, CachedJWT] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: JWTKey) -> CachedJWT | None:
        """What is kept under a key; it was just used."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: JWTKey, cached: CachedJWT) -> None:
        """Keep this one, in place of what was there and, where there is no room, of the one unused for longest.

        One that is too long is not kept: the thousands that a workload can ask for must fit into memory.
        """
        if len(cached.svid.token) > MAXIMUM_TOKEN:
            self._kept.pop(key, None)
            return
        self._kept[key] = cached
        self._kept.move_to_end(key)
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def drop_signed_by(self, key_ids: Iterable[str]) -> int:
        """Forget what these authorities signed; how many."""
        gone = frozenset(key_ids)
        doomed = [key for key, cached in self._kept.items() if cached.key_id in gone]
        for key in doomed:
            del self._kept[key]
        return len(doomed)

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
