"""Two trust domains in one database: nothing that is asked of one tells of, or touches, the other."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import event
from sqlalchemy.engine import Engine

from authsec_sdk.spiffe import SpiffeID, TrustBundle, TrustDomain
from authsec_sdk.spire.agents import JoinToken
from authsec_sdk.spire.entries import EntryChanges, RegistrationEntry
from authsec_sdk.spire.selectors import Selector
from authsec_sdk.spire.tainted import PublishedBundle
from icp_server.domain.agent import Agent
from icp_server.domain.authorities import AuthorityKind
from icp_server.domain.errors import FailedPrecondition, Internal, InvalidArgument, JournalConflictError, NotFound
from icp_server.domain.federation import (
    BundleFields,
    DeleteMode,
    Endpoint,
    FederationRelationship,
    RelationshipChanges,
)
from icp_server.domain.filters import AgentFilter, EntryFilter, FederatesWithMatch, Match, SelectorMatch
from icp_server.domain.issued import IssuedSVID, fingerprint
from icp_server.domain.results import PageRequest
from icp_server.store.database import Database
from icp_server.store.handle import SQLStore

pytestmark = pytest.mark.anyio
ALL = PageRequest()
KEY = b"k" * 32


def spki() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


SPKI = spki()


@pytest.fixture
async def statements(tmp_path: Path) -> AsyncIterator[list[str]]:
    """Every statement any engine of this test executes."""
    seen: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


@pytest.fixture
async def other(database: Database, clock: Any) -> SQLStore:
    return await SQLStore.bind(database, TrustDomain("other.org"), clock)


def entry(trust_domain: TrustDomain, hint: str) -> RegistrationEntry:
    return RegistrationEntry(
        id="same",
        spiffe_id=SpiffeID.from_path(trust_domain, "/w"),
        parent_id=SpiffeID.from_path(trust_domain, "/spire/agent/join_token/a"),
        selectors=(Selector("unix", "uid:1"),),
        federates_with=(trust_domain,),
        hint=hint,
    )


async def fill(store: SQLStore, clock: Any, root: bytes) -> None:
    """The same ids and texts in each."""
    td = store.trust_domain
    await store.bundles.append_x509(root)
    await store.authorities.append_key(AuthorityKind.JWT, "same", SPKI, 2**40)
    assert (await store.entries.create([entry(td, td.name)]))[0].ok
    agent_id = SpiffeID.from_path(td, "/spire/agent/x509pop/a")
    await store.agents.save_attested(Agent(agent_id, "x509pop", td.name, 2**40, selectors=(Selector("a", "b"),)))
    await store.join_tokens.create(JoinToken("text", int(clock().timestamp()) + 60), None)
    await store.journals.create(td.name.encode())
    await store.issuance.record([IssuedSVID(agent_id, (b"5",), 2**40, "5")])


async def test_same_names_in_two_trust_domains_are_two_things(
    server: Any, database: Database, other: SQLStore, clock: Any
) -> None:
    store: SQLStore = server.store
    root = server.signer.authority.record.data
    for each in (store, other):
        await fill(each, clock, root)

    for each in (store, other):
        td = each.trust_domain
        found = await each.entries.list(EntryFilter(), ALL)
        assert [known.hint for known in found.items] == [td.name]
        for match in Match:
            by_selector = EntryFilter(selectors=SelectorMatch(frozenset({Selector("unix", "uid:1")}), match))
            assert await each.entries.count(by_selector) == 1
            by_federation = EntryFilter(federates_with=FederatesWithMatch(frozenset({td}), match))
            assert await each.entries.count(by_federation) == 1
            by_node = AgentFilter(selectors=SelectorMatch(frozenset({Selector("a", "b")}), match))
            assert [known.id.trust_domain for known in (await each.agents.list(by_node, ALL)).items] == [td]

    # One changes and deletes everything of its own; the other stays as it was.
    before = (
        await store.entries.list(EntryFilter(), ALL),
        await store.agents.list(AgentFilter(), ALL),
        await store.bundles.get(store.trust_domain),
        await store.journals.all(),
    )
    await other.entries.update([EntryChanges(id="same", hint="changed")], lambda _: None)
    await other.entries.delete(["same"])
    await other.join_tokens.consume("text", KEY, clock())
    theirs = SpiffeID.from_path(other.trust_domain, "/spire/agent/x509pop/a")
    await other.agents.delete(theirs, None)
    [journal] = await other.journals.all()
    await other.journals.delete(journal)
    clock.forward(days=2000)
    await other.issuance.prune(clock())
    await other.bundles.prune_x509(clock())
    clock.forward(days=-2000)
    await other.authorities.taint(AuthorityKind.JWT, "same")
    await other.authorities.revoke(AuthorityKind.JWT, "same")
    assert before == (
        await store.entries.list(EntryFilter(), ALL),
        await store.agents.list(AgentFilter(), ALL),
        await store.bundles.get(store.trust_domain),
        await store.journals.all(),
    )
    await store.join_tokens.consume("text", b"x" * 32, clock())
    ours = SpiffeID.from_path(store.trust_domain, "/spire/agent/x509pop/a")
    assert await store.issuance.known(ours, fingerprint(b"5"))


async def test_what_is_the_others_cannot_be_named(server: Any, other: SQLStore, clock: Any) -> None:
    store: SQLStore = server.store
    await fill(store, clock, server.signer.authority.record.data)
    [journal] = [known for known in await store.journals.all() if known.data == b"example.org"]
    agent_id = SpiffeID.from_path(store.trust_domain, "/spire/agent/x509pop/a")
    assert await other.entries.get("same") is None
    [updated] = await other.entries.update([EntryChanges(id="same", hint="x")], lambda _: None)
    [deleted] = await other.entries.delete(["same"])
    assert isinstance(updated.error, NotFound)
    assert isinstance(deleted.error, NotFound)
    assert await other.agents.get(agent_id) is None
    with pytest.raises(NotFound):
        await other.agents.delete(agent_id, None)
    with pytest.raises(InvalidArgument):
        await other.join_tokens.consume("text", KEY, clock())
    with pytest.raises(JournalConflictError):
        await other.journals.replace(journal, b"mine")
    assert not await other.issuance.known(agent_id, fingerprint(b"5"))
    assert await other.bundles.get(store.trust_domain) is None
    assert await other.bundles.published(store.trust_domain) is None
    assert await other.bundles.count() == 0
    foreign = TrustDomain("foreign.example")
    await store.bundles.set(PublishedBundle(TrustBundle(foreign)))
    await store.relationships.create(FederationRelationship(foreign, Endpoint("https://a")))
    assert (await other.bundles.list(ALL)).items == ()
    assert await other.relationships.endpoints() == {}
    assert await other.relationships.get(foreign) is None
    for refused in (
        other.bundles.delete(foreign, DeleteMode.DELETE),
        other.bundles.update(PublishedBundle(TrustBundle(foreign)), BundleFields()),
        other.relationships.update(RelationshipChanges(foreign, url="https://b")),
        other.relationships.delete(foreign),
    ):
        with pytest.raises(NotFound):
            await refused
    with pytest.raises(Internal):
        await other.authorities.taint(AuthorityKind.JWT, "same")
    [federated] = await other.entries.create([entry(store.trust_domain, "")])
    assert not federated.ok  # a bundle of theirs is no bundle of ours


async def test_every_statement_names_the_trust_domain(
    statements: list[str], server: Any, other: SQLStore, clock: Any
) -> None:
    """Whatever is asked of a store, its SQL binds the trust domain: a forgotten clause fails here."""
    store: SQLStore = server.store
    statements.clear()
    await fill(store, clock, server.signer.authority.record.data)
    agent_id = SpiffeID.from_path(store.trust_domain, "/spire/agent/x509pop/a")
    sets = [SelectorMatch(frozenset({Selector("unix", "uid:1"), Selector("x", "y")}), match) for match in Match]
    everything = EntryFilter(
        agent_id, agent_id, sets[1], FederatesWithMatch(frozenset({store.trust_domain}), Match.EXACT), "h", True
    )
    for entries_filter in (everything, *(EntryFilter(selectors=each) for each in sets)):
        await store.entries.list(entries_filter, PageRequest(2))
        await store.entries.count(entries_filter)
    for agents_filter in (AgentFilter("x", sets[0], True, True, 5), *(AgentFilter(selectors=each) for each in sets)):
        await store.agents.list(agents_filter, PageRequest(2))
        await store.agents.count(agents_filter)
    await store.entries.update([EntryChanges(id="same", hint="x")], lambda _: None)
    await store.entries.changes_since(replace(store.entries.revision(), position=1))
    await store.entries.changes_since(None)
    await store.entries.inventory()
    await store.changes_since(replace(store.entries.revision(), position=1))
    await store.changes_since(None)
    await store.entries.prune_expired(clock())
    await store.entries.delete(["same"])
    agent = await store.agents.get(agent_id)
    assert agent is not None
    await store.agents.set_new_certificate(agent, "7", 7)
    await store.agents.promote(agent_id, "7")
    await store.agents.set_version(agent_id, "7")
    await store.agents.ban(agent_id)
    await store.agents.delete(agent_id, b"digest")
    await store.join_tokens.consume("text", KEY, clock())
    await store.join_tokens.consume("text", KEY, clock())
    await store.join_tokens.prune(clock())
    await store.bundles.get(store.trust_domain)
    await store.bundles.published(store.trust_domain)
    await store.bundles.prune_x509(clock())
    foreign = TrustDomain("foreign.example")
    root = x509.load_der_x509_certificate(server.signer.authority.record.data)
    federated = PublishedBundle(TrustBundle(foreign, (root,)))
    await store.bundles.create(federated)
    await store.bundles.update(federated, BundleFields(refresh_hint=False))
    await store.bundles.set(federated)
    await store.bundles.append(PublishedBundle(TrustBundle(store.trust_domain, (root,))))
    await store.bundles.list(PageRequest(1, "1"))
    await store.bundles.count()
    for mode in DeleteMode:
        await store.bundles.set(federated)
        new = replace(entry(store.trust_domain, ""), id=mode.name, federates_with=(foreign,))
        await store.entries.create([new])
        if mode is DeleteMode.RESTRICT:
            with pytest.raises(FailedPrecondition):
                await store.bundles.delete(foreign, mode)
            await store.entries.delete([mode.name])
        await store.bundles.delete(foreign, mode)
    await store.relationships.create(FederationRelationship(foreign, Endpoint("https://a"), federated))
    await store.relationships.update(RelationshipChanges(foreign, url="https://b", bundle=federated))
    await store.relationships.get(foreign)
    await store.relationships.list(PageRequest(1, "1"))
    await store.relationships.endpoints()
    await store.relationships.delete(foreign)
    for kind in (AuthorityKind.JWT, AuthorityKind.WIT):
        await store.authorities.append_key(kind, kind.value, spki(), 5)
        await store.authorities.taint(kind, kind.value)
    await store.authorities.revoke(AuthorityKind.JWT, "jwt")
    await store.authorities.prune_keys(clock())
    [journal, *_] = await store.journals.all()
    journal = await store.journals.replace(journal, b"x")
    await store.journals.delete(journal)
    await store.issuance.known(agent_id, "5")
    await store.issuance.prune(clock())

    called = {
        name
        for part_name, part in vars(store).items()
        if not part_name.startswith("_")
        for name, member in vars(type(part)).items()
        if inspect.iscoroutinefunction(member)
    }
    assert {name for name in called if not name.startswith("_")} <= {
        "create", "update", "delete", "get", "list", "count", "changes_since", "prune_expired", "save_attested",
        "set_new_certificate", "promote", "set_version", "ban", "consume", "prune", "append_x509", "prune_x509",
        "all", "replace", "record", "known", "inventory", "published", "append_key", "prune_keys", "taint", "revoke",
        "append", "set", "endpoints",
    }, "a new method of a store: call it above"  # fmt: skip
    assert len(statements) > 60
    for statement in statements:
        if statement.startswith(("PRAGMA", "BEGIN", "SELECT pg_notify(")):
            continue
        tables = set(re.findall(r"(?:FROM|JOIN|INTO|UPDATE) (\w+)", statement)) - {"trust_domains"}
        statement = re.sub(r"\$\d+::BIGINT", "?", statement)  # as PostgreSQL's driver numbers them
        bound = set(re.findall(r"(\w+)\.trust_domain_id = \?", statement))
        if statement.startswith("INSERT"):
            assert "trust_domain_id" in statement.partition("VALUES")[0]
        elif tables:
            assert tables <= bound, statement
        else:
            assert "trust_domains.id = ?" in statement, statement
