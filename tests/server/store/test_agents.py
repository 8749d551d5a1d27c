"""Attested nodes in a real file."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.selectors import Selector
from icp_server.domain.agent import Agent
from icp_server.domain.errors import Internal, NotFound, PermissionDenied
from icp_server.domain.filters import AgentFilter, Match, SelectorMatch
from icp_server.domain.results import PageRequest
from icp_server.store.handle import SQLStore

pytestmark = pytest.mark.anyio
ALL = PageRequest()
ZONE, RACK = Selector("dc", "zone:1"), Selector("dc", "rack:2")


def agent(name: str = "a", **fields: Any) -> Agent:
    defaults: dict[str, Any] = {"attestation_type": "join_token", "serial_number": "11", "expires_at": 1000}
    return Agent(SpiffeID.parse(f"spiffe://example.org/spire/agent/join_token/{name}"), **{**defaults, **fields})


async def test_an_agent_comes_back_as_it_was_written(store: SQLStore) -> None:
    written = agent(
        new_serial_number="22", new_expires_at=2000, can_reattest=True, selectors=(ZONE, RACK), agent_version="1.2"
    )
    await store.agents.save_attested(written)
    assert await store.agents.get(written.id) == written
    assert await store.agents.get(agent("b").id) is None


async def test_attesting_again_replaces_the_record(store: SQLStore) -> None:
    await store.agents.save_attested(agent(selectors=(ZONE,), new_serial_number="22", agent_version="1"))
    again = agent(serial_number="33", selectors=(RACK,))
    await store.agents.save_attested(again)
    assert await store.agents.get(again.id) == again
    assert await store.agents.count(AgentFilter()) == 1
    assert await store.agents.count(AgentFilter(selectors=SelectorMatch(frozenset({ZONE}), Match.ANY))) == 0


async def test_renewal_and_promotion(store: SQLStore) -> None:
    await store.agents.save_attested(agent())
    known = agent().id
    await store.agents.set_new_certificate(agent(), "22", 2000)
    assert await store.agents.get(known) == agent(new_serial_number="22", new_expires_at=2000)
    assert await store.agents.promote(known, "33") is None
    after = agent(serial_number="22", expires_at=2000)
    assert await store.agents.promote(known, "22") == after
    assert await store.agents.get(known) == after
    assert await store.agents.promote(known, "22") == after  # a second call that was under way
    assert await store.agents.promote(known, "11") is None
    assert await store.agents.promote(known, "") is None
    assert await store.agents.promote(agent("b").id, "22") is None


async def test_a_ban_holds_until_the_record_is_deleted(store: SQLStore) -> None:
    await store.agents.save_attested(agent(new_serial_number="22", selectors=(ZONE,)))
    known = agent().id
    await store.agents.ban(known)
    found = await store.agents.get(known)
    assert found is not None
    assert found.banned
    assert found.selectors == (ZONE,)
    assert await store.agents.promote(known, "22") is None
    assert await store.agents.promote(known, "") is None
    with pytest.raises(PermissionDenied):
        await store.agents.save_attested(agent(serial_number="33"))
    with pytest.raises(PermissionDenied):
        await store.agents.set_new_certificate(agent(), "33", 1)
    await store.agents.delete(known, None)
    assert await store.agents.get(known) is None
    await store.agents.save_attested(agent(serial_number="33"))


async def test_unknown_agents(store: SQLStore) -> None:
    unknown = agent("nobody").id
    for call in (
        store.agents.ban(unknown),
        store.agents.delete(unknown, None),
        store.agents.set_version(unknown, "1"),
        store.agents.set_new_certificate(agent("nobody"), "1", 1),
    ):
        with pytest.raises(NotFound, match="agent not found"):
            await call


async def test_a_record_read_is_never_older_than_the_last_write(store: SQLStore) -> None:
    """Records are kept in memory; readers that overtake writers must not put old ones back."""
    await store.agents.save_attested(agent())
    known = agent().id
    newest = 0

    async def write() -> None:
        nonlocal newest
        for n in range(1, 40):
            await store.agents.set_version(known, str(n))
            newest = n

    async def read() -> None:
        while newest < 39:
            seen = newest
            found = await store.agents.get(known)
            assert found is not None
            assert int(found.agent_version or 0) >= seen
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        for _ in range(3):
            group.create_task(read())
    found = await store.agents.get(known)
    assert found is not None
    assert found.agent_version == "39"


async def test_filters_and_pages(store: SQLStore) -> None:
    agents = [
        agent("a", selectors=(ZONE,)),
        agent("b", selectors=(ZONE, RACK), can_reattest=True, attestation_type="x509pop", expires_at=5),
        agent("c", expires_at=10),
    ]
    for each in agents:
        await store.agents.save_attested(each)
    await store.agents.ban(agents[2].id)

    async def names(**fields: Any) -> str:
        filter_ = AgentFilter(**fields)
        found = (await store.agents.list(filter_, ALL)).items
        assert await store.agents.count(filter_) == len(found)
        return "".join(each.id.segments[-1] for each in found)

    assert await names() == "abc"
    assert await names(attestation_type="x509pop") == "b"
    assert await names(attestation_type="") == "abc"
    assert await names(banned=True) == "c"
    assert await names(banned=False) == "ab"
    assert await names(can_reattest=True) == "b"
    assert await names(can_reattest=False) == "ac"
    assert await names(expires_before=6) == "b"
    assert await names(expires_before=11) == "bc"  # a banned one counts too
    both = frozenset({ZONE, RACK})
    assert await names(selectors=SelectorMatch(both, Match.EXACT)) == "b"
    assert await names(selectors=SelectorMatch(both, Match.SUBSET)) == "ab"
    assert await names(selectors=SelectorMatch(frozenset({ZONE}), Match.SUPERSET)) == "ab"
    assert await names(selectors=SelectorMatch(frozenset({ZONE}), Match.EXACT)) == "a"
    assert await names(selectors=SelectorMatch(frozenset({RACK}), Match.ANY)) == "b"
    assert await names(selectors=SelectorMatch(both, Match.ANY), can_reattest=False) == "a"

    first = await store.agents.list(AgentFilter(), PageRequest(2))
    second = await store.agents.list(AgentFilter(), PageRequest(2, first.next_token))
    assert [*first.items, *second.items] == [*agents[:2], replace(agents[2], serial_number="")]
    with pytest.raises(Internal):
        await store.agents.list(AgentFilter(), PageRequest(2, "x"))
