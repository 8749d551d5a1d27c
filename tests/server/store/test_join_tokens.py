"""Join tokens in a real file: spent once, by one key, whatever goes wrong around it."""

from __future__ import annotations

import asyncio
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from authsec_sdk.spiffe import TrustDomain
from authsec_sdk.spire.agents import JoinToken
from authsec_sdk.spire.entries import RegistrationEntry
from authsec_sdk.spire.selectors import Selector
from icp_server.domain.agent import Agent
from icp_server.domain.errors import AlreadyExists, Internal, InvalidArgument, NotFound
from icp_server.domain.filters import EntryFilter
from icp_server.domain.join_token import agent_id_of, digest, digest_of_agent
from icp_server.store.database import Database
from icp_server.store.handle import SQLStore

pytestmark = pytest.mark.anyio
MINE, THEIRS = b"m" * 32, b"t" * 32


def token(clock: Any, text: str = "secret-token", ttl: float = 600) -> JoinToken:
    return JoinToken(text, int((clock() + timedelta(seconds=ttl)).timestamp()))


def alias(store: SQLStore, text: str, new_entry: Any) -> RegistrationEntry:
    parent = agent_id_of(store.trust_domain, text)
    return RegistrationEntry(
        id=f"alias-{text}",
        spiffe_id=new_entry("node").spiffe_id,
        parent_id=parent,
        selectors=(Selector("spiffe_id", str(parent)),),
    )


async def attested(store: SQLStore, text: str) -> Agent:
    agent = Agent(agent_id_of(store.trust_domain, text), "join_token", "11", 2**40)
    await store.agents.save_attested(agent)
    return agent


async def test_a_token_is_spent_by_one_key_alone(store: SQLStore, clock: Any) -> None:
    await store.join_tokens.create(token(clock), None)
    await store.join_tokens.consume("secret-token", MINE, clock())
    with pytest.raises(InvalidArgument, match="does not exist or has already been used"):
        await store.join_tokens.consume("secret-token", THEIRS, clock())


async def test_a_lost_reply_is_asked_for_again_by_the_same_key_until_the_token_expires(
    store: SQLStore, clock: Any
) -> None:
    await store.join_tokens.create(token(clock), None)
    for _ in range(3):
        await store.join_tokens.consume("secret-token", MINE, clock())
    clock.forward(seconds=599)
    await store.join_tokens.consume("secret-token", MINE, clock())
    clock.forward(seconds=1)
    with pytest.raises(InvalidArgument, match="does not exist or has already been used"):
        await store.join_tokens.consume("secret-token", MINE, clock())


async def test_an_unknown_token(store: SQLStore, clock: Any) -> None:
    with pytest.raises(InvalidArgument, match="does not exist or has already been used"):
        await store.join_tokens.consume("secret-token", MINE, clock())


async def test_an_expired_token_is_gone_after_it_was_shown_once(store: SQLStore, clock: Any) -> None:
    await store.join_tokens.create(token(clock), None)
    clock.forward(seconds=600)
    with pytest.raises(InvalidArgument, match="join token expired"):
        await store.join_tokens.consume("secret-token", MINE, clock())
    with pytest.raises(InvalidArgument, match="does not exist or has already been used"):
        await store.join_tokens.consume("secret-token", MINE, clock())
    await store.join_tokens.create(token(clock), None)  # no agent of it ever existed


async def test_of_many_keys_at_once_one_wins(store: SQLStore, clock: Any) -> None:
    await store.join_tokens.create(token(clock), None)

    async def spend(key: bytes) -> bool:
        try:
            await store.join_tokens.consume("secret-token", key, clock())
        except InvalidArgument:
            return False
        return True

    outcomes = await asyncio.gather(*(spend(bytes([n]) * 32) for n in range(16)))
    assert outcomes.count(True) == 1


async def test_the_same_text_waits_once(store: SQLStore, clock: Any) -> None:
    await store.join_tokens.create(token(clock), None)
    with pytest.raises(Internal, match="waiting already"):
        await store.join_tokens.create(token(clock), None)


async def test_a_text_whose_agent_ever_existed_is_refused(store: SQLStore, clock: Any) -> None:
    await store.join_tokens.create(token(clock), None)
    await store.join_tokens.consume("secret-token", MINE, clock())
    agent = await attested(store, "secret-token")
    with pytest.raises(AlreadyExists):
        await store.join_tokens.create(token(clock), None)
    await store.agents.delete(agent.id, digest("secret-token"))
    clock.forward(days=400)
    with pytest.raises(AlreadyExists):
        await store.join_tokens.create(token(clock), None)


async def test_a_text_whose_agent_exists_is_refused_even_if_no_token_made_it(store: SQLStore, clock: Any) -> None:
    await attested(store, "secret-token")
    with pytest.raises(AlreadyExists):
        await store.join_tokens.create(token(clock), None)


async def test_eviction_ends_the_right_to_ask_again(store: SQLStore, clock: Any) -> None:
    await store.join_tokens.create(token(clock), None)
    await store.join_tokens.consume("secret-token", MINE, clock())
    agent = await attested(store, "secret-token")
    await store.agents.delete(agent.id, digest_of_agent(agent.id))
    with pytest.raises(InvalidArgument):
        await store.join_tokens.consume("secret-token", MINE, clock())


async def test_the_alias_comes_with_the_token_and_goes_with_the_agent(
    store: SQLStore, clock: Any, new_entry: Any
) -> None:
    entry = alias(store, "secret-token", new_entry)
    await store.join_tokens.create(token(clock), entry)
    found = await store.entries.get(entry.id)
    assert found is not None
    assert (found.spiffe_id, found.parent_id, found.selectors) == (entry.spiffe_id, entry.parent_id, entry.selectors)
    agent = await attested(store, "secret-token")
    unrelated = new_entry("below", id="below", parent=agent.id.path.lstrip("/"))
    await store.entries.create([unrelated])
    before = store.entries.revision()
    await store.agents.delete(agent.id, digest("secret-token"))
    assert await store.entries.get(entry.id) is None
    assert await store.entries.get("below") is not None
    assert (await store.entries.changes_since(before)).removed == {entry.id}


async def test_a_refused_token_leaves_no_alias(store: SQLStore, clock: Any, new_entry: Any) -> None:
    await store.join_tokens.create(token(clock), None)
    with pytest.raises(Internal):
        await store.join_tokens.create(token(clock), alias(store, "secret-token", new_entry))
    assert await store.entries.count(EntryFilter()) == 0
    assert store.entries.revision().position == 0


async def test_the_alias_of_an_expired_token_serves_the_next_one(store: SQLStore, clock: Any, new_entry: Any) -> None:
    entry = alias(store, "secret-token", new_entry)
    await store.join_tokens.create(token(clock), entry)
    clock.forward(seconds=600)
    assert await store.join_tokens.prune(clock()) == 1
    await store.join_tokens.create(token(clock), entry)
    assert await store.entries.count(EntryFilter()) == 1


async def test_pruning_leaves_tokens_in_force(store: SQLStore, clock: Any) -> None:
    await store.join_tokens.create(token(clock, "a"), None)
    await store.join_tokens.create(token(clock, "b", ttl=1200), None)
    clock.forward(seconds=600)
    assert await store.join_tokens.prune(clock()) == 1
    await store.join_tokens.consume("b", MINE, clock())
    with pytest.raises(InvalidArgument, match="does not exist"):
        await store.join_tokens.consume("a", MINE, clock())


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_the_database_does_not_hold_the_text(store: SQLStore, clock: Any, tmp_path: Path) -> None:
    await store.join_tokens.create(token(clock), None)
    await store.join_tokens.create(token(clock, "spent-token"), None)
    await store.join_tokens.consume("spent-token", MINE, clock())
    files = list(tmp_path.glob("server.sqlite3*"))
    assert len(files) >= 3
    for file in files:
        assert b"secret-token" not in file.read_bytes()
        assert b"spent-token" not in file.read_bytes()


async def test_a_database_put_back_by_hand_revives_a_token_until_it_expires_and_no_longer(
    tmp_path: Path, trust_domain: TrustDomain, clock: Any
) -> None:
    """Threat 12, the limit as it is: what the database forgot, nobody else remembers. Its expiry is in the copy too."""
    place, copy = tmp_path / "live.sqlite3", tmp_path / "copy.sqlite3"
    async with await Database.open(place) as database:
        store = await SQLStore.bind(database, trust_domain, clock)
        await store.join_tokens.create(token(clock), None)
    shutil.copy(place, copy)
    async with await Database.open(place) as database:
        store = await SQLStore.bind(database, trust_domain, clock)
        await store.join_tokens.consume("secret-token", MINE, clock())
    shutil.copy(copy, place)
    clock.forward(seconds=599)
    async with await Database.open(place) as database:
        store = await SQLStore.bind(database, trust_domain, clock)
        await store.join_tokens.consume("secret-token", THEIRS, clock())
    shutil.copy(copy, place)
    clock.forward(seconds=1)
    async with await Database.open(place) as database:
        store = await SQLStore.bind(database, trust_domain, clock)
        with pytest.raises(InvalidArgument, match="join token expired"):
            await store.join_tokens.consume("secret-token", THEIRS, clock())


async def test_deleting_an_agent_that_is_not_there_frees_nothing(store: SQLStore, clock: Any) -> None:
    await store.join_tokens.create(token(clock), None)
    await store.join_tokens.consume("secret-token", MINE, clock())
    with pytest.raises(NotFound):
        await store.agents.delete(agent_id_of(store.trust_domain, "secret-token"), digest("secret-token"))
    await store.join_tokens.consume("secret-token", MINE, clock())
