"""Attested nodes in SQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row, Select, func
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.selectors import Selector, unique_selectors
from icp_server.domain.agent import Agent, promoted
from icp_server.domain.errors import AgentDenied, DenialReason, NotFound, PermissionDenied
from icp_server.domain.filters import AgentFilter
from icp_server.domain.results import Page, PageRequest
from icp_server.store.agent_cache import AgentCache
from icp_server.store.entries import change_entries
from icp_server.store.entry_rows import chunks, selector_digest
from icp_server.store.paging import next_token, start_of
from icp_server.store.scope import Scope
from icp_server.store.sets import matching_selectors
from icp_server.store.tables import agent_selectors, agents, entries, spent_join_tokens

T = TypeVar("T")

_SAME_NAME = (
    "attestation_type",
    "serial_number",
    "expires_at",
    "new_serial_number",
    "new_expires_at",
    "can_reattest",
    "agent_version",
)


class SQLAgentStore:
    """Implements the `AgentStore` port."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._cache = AgentCache()

    def forget(self, agent_ids: Collection[SpiffeID] | None) -> None:
        """Another server may have written these; None: any."""
        if agent_ids is None:
            self._cache.clear()
            return
        for agent_id in agent_ids:
            self._cache.written(agent_id)

    async def get(self, agent_id: SpiffeID, *, fresh: bool = False) -> Agent | None:
        """The agent's record."""
        cached = self._cache.get(agent_id)
        if cached is not None and not fresh:
            return cached
        writes = self._cache.writes
        async with self._scope.read() as connection:
            found = await self._find(connection, agent_id)
        if found is None:
            return None
        self._cache.keep(found[1], writes)
        return found[1]

    async def save_attested(self, agent: Agent, *, first_use_only: bool = False) -> None:
        """Write the record of a fresh attestation."""

        async def work(connection: AsyncConnection) -> None:
            found = await self._find(connection, agent.id)
            if found is None:
                values = {"spiffe_id": str(agent.id), "created_at": self._scope.now(), **_columns(agent)}
                made = await connection.execute(self._scope.insert(agents, values).returning(agents.c.id))
                row_id = made.scalar_one()
            else:
                row_id, known = found
                if first_use_only:
                    raise PermissionDenied("attestation data has already been used to attest an agent")
                _refuse_banned(known)
                await self._update(connection, row_id, _columns(agent))
                await connection.execute(
                    self._scope.delete(agent_selectors, by_row=True).where(agent_selectors.c.agent_row_id == row_id)
                )
            selectors = unique_selectors(agent.selectors)
            rows: list[dict[str, object]] = [{"agent_row_id": row_id, "selector": str(each)} for each in selectors]
            await self._scope.insert_all(connection, agent_selectors, rows)

        await self._write(agent.id, work)

    async def set_new_certificate(self, agent: Agent, serial_number: str, expires_at: int) -> None:
        """Remember what a renewal handed out."""

        async def work(connection: AsyncConnection) -> None:
            row_id, known = await self._required(connection, agent.id)
            _refuse_banned(known)
            if known.serial_number != agent.serial_number:
                # The call was admitted by a certificate that was replaced since: whoever stole it gets no fresh one.
                raise AgentDenied(f'agent "{agent.id}" is not active any more', DenialReason.AGENT_NOT_ACTIVE)
            await self._update(connection, row_id, {"new_serial_number": serial_number, "new_expires_at": expires_at})

        await self._write(agent.id, work)

    async def promote(self, agent_id: SpiffeID, serial_number: str) -> Agent | None:
        """Make the new certificate the current one if it is still the new one."""

        async def work(connection: AsyncConnection) -> Agent | None:
            found = await self._find(connection, agent_id)
            if found is None or not serial_number:
                return None
            row_id, agent = found
            if agent.banned:
                return None
            if agent.serial_number == serial_number:  # another call of the agent was quicker
                return agent
            if agent.new_serial_number != serial_number:
                return None
            agent = promoted(agent)
            await self._update(connection, row_id, _columns(agent))
            return agent

        return await self._write(agent_id, work)

    async def set_version(self, agent_id: SpiffeID, version: str) -> None:
        """Remember which release the agent runs."""

        async def work(connection: AsyncConnection) -> None:
            row_id, _ = await self._required(connection, agent_id)
            await self._update(connection, row_id, {"agent_version": version})

        await self._write(agent_id, work)

    async def ban(self, agent_id: SpiffeID) -> None:
        """Empty the serial numbers and keep the record."""

        async def work(connection: AsyncConnection) -> None:
            row_id, _ = await self._required(connection, agent_id)
            await self._update(connection, row_id, {"serial_number": "", "new_serial_number": "", "new_expires_at": 0})

        await self._write(agent_id, work)

    async def delete(self, agent_id: SpiffeID, token_digest: bytes | None) -> None:
        """Remove the record; of a join-token agent also the alias entry and the right to ask again."""

        async def work(connection: AsyncConnection) -> tuple[None, list[str]]:
            row_id, _ = await self._required(connection, agent_id)
            await connection.execute(self._scope.delete(agents).where(agents.c.id == row_id))
            if token_digest is None:
                return None, []
            spent = self._scope.update(spent_join_tokens).where(spent_join_tokens.c.digest == token_digest)
            await connection.execute(spent.values(key_digest=None))
            alias = self._scope.delete(entries).where(
                entries.c.parent_id == str(agent_id),
                entries.c.selector_digest == selector_digest([Selector("spiffe_id", str(agent_id))]),
            )
            return None, list((await connection.execute(alias.returning(entries.c.entry_id))).scalars())

        await change_entries(self._scope, work, lambda: self._cache.written(agent_id), agents=[agent_id])

    async def list(self, filter_: AgentFilter, page: PageRequest) -> Page[Agent]:
        """Agents in the order they first attested."""
        query = _select_filtered(self._scope, filter_)
        query = query.where(agents.c.id > start_of(page)).order_by(agents.c.id)
        async with self._scope.read() as connection:
            rows = (await connection.execute(query.limit(page.size) if page.size else query)).all()
            return Page(tuple(await self._hydrate(connection, rows)), next_token(page, rows))

    async def count(self, filter_: AgentFilter) -> int:
        """How many agents the filter lets through."""
        query = _select_filtered(self._scope, filter_, func.count())
        async with self._scope.read() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def _write(self, agent_id: SpiffeID, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async def noted(connection: AsyncConnection) -> T:
            result = await work(connection)
            await self._scope.note(connection, agents=[agent_id])
            return result

        return await self._scope.write(noted, lambda _: self._cache.written(agent_id))

    async def _find(self, connection: AsyncConnection, agent_id: SpiffeID) -> tuple[int, Agent] | None:
        query = self._scope.select(agents).where(agents.c.spiffe_id == str(agent_id))
        rows = (await connection.execute(query)).all()
        return (rows[0].id, (await self._hydrate(connection, rows))[0]) if rows else None

    async def _required(self, connection: AsyncConnection, agent_id: SpiffeID) -> tuple[int, Agent]:
        found = await self._find(connection, agent_id)
        if found is None:
            raise NotFound("agent not found")
        return found

    async def _update(self, connection: AsyncConnection, row_id: int, values: dict[str, object]) -> None:
        await connection.execute(self._scope.update(agents).where(agents.c.id == row_id).values(values))

    async def _hydrate(self, connection: AsyncConnection, rows: Sequence[Row[Any]]) -> Sequence[Agent]:
        selectors: defaultdict[int, list[Selector]] = defaultdict(list)
        owner, text = agent_selectors.c.agent_row_id, agent_selectors.c.selector
        for chunk in chunks(rows):
            query = self._scope.select(agent_selectors, owner, text, by_row=True).where(
                owner.in_([row.id for row in chunk])
            )
            for row_id, selector in await connection.execute(query.order_by(agent_selectors.c.id)):
                selectors[row_id].append(Selector.parse(selector))
        return [
            Agent(
                id=SpiffeID.parse(row.spiffe_id),
                selectors=tuple(selectors[row.id]),
                **{name: getattr(row, name) for name in _SAME_NAME},
            )
            for row in rows
        ]


def _columns(agent: Agent) -> dict[str, object]:
    return {name: getattr(agent, name) for name in _SAME_NAME}


def _refuse_banned(agent: Agent) -> None:
    if agent.banned:
        raise PermissionDenied("agent is banned", DenialReason.AGENT_BANNED)


def _select_filtered(scope: Scope, filter_: AgentFilter, *columns: ColumnElement[Any]) -> Select[Any]:
    by_row = filter_.selectors is not None
    return scope.select(agents, *columns, by_row=by_row).where(*_clauses(scope, filter_))


def _clauses(scope: Scope, filter_: AgentFilter) -> list[ColumnElement[bool]]:
    clauses: list[ColumnElement[bool]] = []
    if filter_.attestation_type:
        clauses.append(agents.c.attestation_type == filter_.attestation_type)
    if filter_.selectors is not None:
        owner = agent_selectors.c.agent_row_id
        clauses.append(matching_selectors(scope, agent_selectors, agents.c.id, owner, filter_.selectors))
    if filter_.banned is not None:
        clauses.append((agents.c.serial_number == "") if filter_.banned else (agents.c.serial_number != ""))
    if filter_.can_reattest is not None:
        clauses.append(agents.c.can_reattest.is_(filter_.can_reattest))
    if filter_.expires_before is not None:
        clauses.append(agents.c.expires_at < filter_.expires_before)
    return clauses
