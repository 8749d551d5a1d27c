"""Statements that ask for a few rows find them by an index, however many there are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.entries import EntryChanges
from authsec_sdk.spire.selectors import Selector
from icp_server.domain.agent import Agent
from icp_server.domain.filters import AgentFilter, EntryFilter, FederatesWithMatch, Match, SelectorMatch
from icp_server.domain.results import PageRequest

pytestmark = pytest.mark.anyio


async def test_no_statement_reads_all_rows_for_a_few(database: Any, server: Any, new_entry: Any, clock: Any) -> None:
    """Not a scan, and not a search by the trust domain alone, which reads as much."""
    store, td = server.store, server.store.trust_domain
    await store.entries.create([new_entry(f"w{n}", id=f"e{n}", federates_with=(td,)) for n in range(20)])
    agent_id = SpiffeID.from_path(td, "/spire/agent/join_token/a")
    await store.agents.save_attested(Agent(agent_id, "join_token", "1", 1, selectors=(Selector("a", "b"),)))
    token = await server.agents.create_join_token(600)
    asked: list[tuple[str, Any]] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            asked.append((statement, parameters[0] if many else parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        selectors = [SelectorMatch(frozenset({Selector("unix", "uid:1000")}), match) for match in Match]
        federations = [FederatesWithMatch(frozenset({td}), match) for match in Match]
        for filter_ in (
            EntryFilter(spiffe_id=agent_id),
            EntryFilter(parent_id=agent_id),
            EntryFilter(hint="x"),
            *(EntryFilter(selectors=wanted) for wanted in selectors),
            *(EntryFilter(federates_with=wanted) for wanted in federations),
        ):
            await store.entries.list(filter_, PageRequest(5))
            await store.entries.count(filter_)
        for wanted in selectors:
            await store.agents.list(AgentFilter(selectors=wanted), PageRequest(5))
        await store.entries.get("e1")
        await store.entries.create([new_entry("new", id="new")])
        await store.entries.update([EntryChanges(id="e1", hint="x")], lambda _: None)
        now = store.entries.revision()
        await store.entries.changes_since(replace(now, position=now.position - 1))
        await store.entries.prune_expired(clock())
        await store.entries.delete(["e1"])
        await store.agents.save_attested(Agent(agent_id, "join_token", "2", 1, selectors=(Selector("a", "c"),)))
        attested = await store.agents.get(agent_id)
        await store.agents.set_new_certificate(attested, "3", 1)
        await store.agents.promote(agent_id, "3")
        await store.join_tokens.consume(token.value, b"k" * 32, clock())
        await store.agents.delete(agent_id, b"digest")
        await store.bundles.get(td)
        await store.issuance.known(agent_id, "1")
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert len(asked) > 60
    if database.postgres is None:
        await check_sqlite(database, asked)
    else:
        await check_postgres(database, asked)


async def check_sqlite(database: Any, asked: list[tuple[str, Any]]) -> None:
    async with database.read() as connection:
        for statement, parameters in asked:
            plan = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)).all()
            for step in (row[-1] for row in plan):
                assert not step.startswith("SCAN"), (statement, step)
                assert not step.endswith("(trust_domain_id=?)"), (statement, step)


async def check_postgres(database: Any, asked: list[tuple[str, Any]]) -> None:
    """With so few rows it would read them all; told not to, it shows whether there is another way."""

    async def explain(connection: Any) -> None:
        await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        for statement, parameters in asked:
            if "FOR UPDATE" in statement:
                continue
            plan = (await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)).scalars().all()
            for step in plan:
                assert "Seq Scan" not in step, (statement, plan)

    await database.write(explain)
