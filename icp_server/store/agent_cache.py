"""Agents' records in memory: every call of an agent asks for its own, and few change."""

from __future__ import annotations

from collections import OrderedDict

from authsec_sdk.spiffe import SpiffeID
from icp_server.domain.agent import Agent

MAX_AGENTS = 10_000


class AgentCache:
    """As fresh as the last committed write of this process, and the last that a follower told of another server's."""

    def __init__(self) -> None:
        self._records: OrderedDict[SpiffeID, Agent] = OrderedDict()
        self._writes = 0

    @property
    def writes(self) -> int:
        """How many writes there were: what a reader notes before it reads."""
        return self._writes

    def get(self, agent_id: SpiffeID) -> Agent | None:
        """The record, if it is here."""
        return self._records.get(agent_id)

    def keep(self, agent: Agent, writes: int) -> None:
        """Keep what a reader found, unless there was a write since it began to read."""
        if writes != self._writes:
            return
        self._records[agent.id] = agent
        self._records.move_to_end(agent.id)
        if len(self._records) > MAX_AGENTS:
            self._records.popitem(last=False)

    def written(self, agent_id: SpiffeID) -> None:
        """Forget a record that a committed write may have changed."""
        self._writes += 1
        self._records.pop(agent_id, None)

    def clear(self) -> None:
        """Forget everything."""
        self._writes += 1
        self._records.clear()
