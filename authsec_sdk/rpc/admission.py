"""Who is connected, and who has to go so that another may be: the server's bounds over all of its connections."""

import asyncio
import resource
from collections import Counter
from collections.abc import Callable, Hashable

from authsec_sdk.rpc.budget import ByteBudget
from authsec_sdk.rpc.limits import ServerLimits
from authsec_sdk.rpc.peer import Peer
from authsec_sdk.rpc.server_protocol import ServerProtocol, ServerStats

#: Descriptors left to the rest of the process.
SPARE_DESCRIPTORS = 128


class Accepted:
    """A connection from accept to end."""

    __slots__ = ("begun", "evicted", "peer", "protocol", "task", "up")

    def __init__(self, peer: Peer, protocol: ServerProtocol) -> None:
        self.peer = peer
        self.protocol = protocol
        self.begun = False  # its task has made its first step and owns the socket
        self.evicted = False  # it is closing to make room
        self.up = False  # the handshake is done
        self.task: asyncio.Task[None] | None = None

    @property
    def idle_since(self) -> float | None:
        """Since when it has no call; None while it has one, or is not up."""
        return self.protocol.vitals.idle_since if self.up else None


def _anyone(_: Accepted) -> bool:
    return True


class Admission:
    """The connections of a server. Who makes room is of the peer that takes the most: a flood displaces itself."""

    def __init__(self, limits: ServerLimits, stats: ServerStats) -> None:
        self._limits = limits
        self._stats = stats
        self.accepted: set[Accepted] = set()
        self.budget = ByteBudget(limits.max_buffered)
        self.budget.on_full = self._free_memory
        self._per_peer: Counter[Hashable] = Counter()
        self._handshakes: dict[Accepted, None] = {}  # in the order of their beginning
        self._evicting = 0

    def __len__(self) -> int:
        return len(self.accepted)

    def refusal(self, peer: Peer) -> str | None:
        """Why that peer cannot be let in, after trying to make room; None if it can."""
        crowded = self._per_peer[peer.key] >= self._limits.max_connections_per_peer
        if crowded and not self.make_room(lambda one: one.peer.key == peer.key):
            return "too many connections of this peer"
        if len(self.accepted) - self._evicting >= self._most() and not self.make_room():
            return "too many connections"
        return None

    def _most(self) -> int:
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return min(self._limits.max_connections, max(16, descriptors - SPARE_DESCRIPTORS))

    def add(self, one: Accepted) -> None:
        """Count a connection whose handshake begins."""
        self.accepted.add(one)
        self._per_peer[one.peer.key] += 1
        self._handshakes[one] = None
        if len(self._handshakes) > self._limits.max_handshakes:
            self._drop_a_handshake(_anyone)

    def handshake_done(self, one: Accepted) -> None:
        """It may be given calls from here on."""
        self._handshakes.pop(one, None)
        one.up = True

    def in_handshake(self, one: Accepted) -> bool:
        """Whether its handshake is under way."""
        return one in self._handshakes

    def discard(self, one: Accepted) -> None:
        """It is gone."""
        self.accepted.discard(one)
        self._handshakes.pop(one, None)
        self._evicting -= one.evicted
        self._per_peer[one.peer.key] -= 1
        if not self._per_peer[one.peer.key]:
            del self._per_peer[one.peer.key]

    def make_room(self, among: Callable[[Accepted], bool] = _anyone) -> bool:
        """Close the longest idle connection of the peer that has the most of them, or else a handshake under way."""
        idle = [one for one in self.accepted if one.idle_since is not None and among(one)]
        if not idle:
            return self._drop_a_handshake(among)
        victim = max(idle, key=lambda one: (self._per_peer[one.peer.key], -(one.idle_since or 0.0)))
        self._stats.connections_evicted += 1
        self._evict(victim)
        victim.protocol.goaway(victim.protocol.connection.h2.highest_inbound_stream_id)
        victim.protocol.connection.abort_soon()
        return True

    def _drop_a_handshake(self, among: Callable[[Accepted], bool]) -> bool:
        candidates = [one for one in self._handshakes if among(one)]
        if not candidates:
            return False
        by_peer = Counter(one.peer.key for one in candidates)
        victim = max(candidates, key=lambda one: by_peer[one.peer.key])  # the first of equals: the oldest
        self._handshakes.pop(victim)
        self._stats.handshakes_failed += 1
        self._evict(victim)
        if victim.task is not None:
            victim.task.cancel()
        return True

    def _evict(self, victim: Accepted) -> None:
        victim.up = False
        victim.evicted = True
        self._evicting += 1

    def _free_memory(self, wanting: ByteBudget) -> bool:
        """Drop the connection that holds the most unfinished messages, unless it is the one that wants more."""
        holder = max(self.accepted, key=lambda one: one.protocol.budget.used, default=None)
        if holder is None or holder.protocol.budget is wanting or not holder.protocol.budget.used:
            return False
        holder.protocol.drop("holds too many unfinished messages")
        return True
