"""The scenarios every cell must pass; upstream's server with upstream's agent is the control that validates them."""

import asyncio
import datetime as dt
from typing import Any

import pytest
from cryptography.x509 import AuthorityKeyIdentifier

from authsec_sdk.spiffe import X509Context
from authsec_sdk.spiffe.verify import verify_chain
from authsec_sdk.workloadapi import WorkloadAPIClient

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]


def fetch(cell: Any) -> X509Context | None:
    """Return what this process gets from the cell's agent, or None while it gets nothing."""

    async def ask() -> X509Context:
        async with WorkloadAPIClient(cell.workload_api) as client:
            return await asyncio.wait_for(client.fetch_x509_context(), 10)

    try:
        return asyncio.run(ask())
    except Exception as error:  # whatever it is, the caller polls on and tells the last one when time is up
        fetch.last = error  # type: ignore[attr-defined]
        return None


def identities(cell: Any) -> set[str]:
    context = fetch(cell)
    return {str(svid.id) for svid in context.svids} if context else set()


def assert_valid(context: X509Context) -> None:
    for svid in context.svids:
        assert verify_chain(svid.certificates, context.bundles, at=dt.datetime.now(dt.UTC)) == svid.id


def test_attest(cell: Any) -> None:
    agents = cell.server_json("agent", "list")["agents"]
    assert [agent["attestation_type"] for agent in agents] == ["join_token"]
    assert agents[0]["id"]["trust_domain"] == cell.trust_domain
    assert not agents[0]["banned"]


def test_used_token_is_refused_to_a_second_agent(cell: Any) -> None:
    refusal = "join token does not exist or has already been used"
    with cell.second_agent(cell.token) as log:
        cell.until("the second agent is told why", lambda: refusal in log.read_text(errors="replace"))
    assert cell.server_json("agent", "count")["count"] == 1


def test_fetch(cell: Any) -> None:
    spiffe_id = cell.register("/fetch")
    cell.until("the workload has its identity", lambda: spiffe_id in identities(cell))
    context = fetch(cell)
    assert context is not None
    assert_valid(context)
    told = cell.agent_cli("api", "fetch", "x509").stdout
    assert spiffe_id in told


def test_entry_removed_ends_the_identity(cell: Any) -> None:
    spiffe_id = cell.register("/removed")
    cell.until("the workload has its identity", lambda: spiffe_id in identities(cell))
    entries = cell.server_json("entry", "show", "-spiffeID", spiffe_id)["entries"]
    cell.server_cli("entry", "delete", "-entryID", entries[0]["id"])
    cell.until("the identity is gone", lambda: spiffe_id not in identities(cell))


def test_server_restart(cell: Any) -> None:
    before = cell.register("/before-server-restart")
    cell.until("the workload has its identity", lambda: before in identities(cell))
    cell.stop("server")
    assert before in identities(cell), "an agent whose server is away serves what it has"
    cell.start_server()
    assert cell.alive("agent")
    after = cell.register("/after-server-restart")
    cell.until("entries made after the restart arrive", lambda: {before, after} <= identities(cell))


def test_agent_restart(cell: Any) -> None:
    spiffe_id = cell.register("/agent-restart")
    cell.until("the workload has its identity", lambda: spiffe_id in identities(cell))
    cell.stop("agent")
    cell.start_agent()
    cell.until("the restarted agent serves without a new token", lambda: spiffe_id in identities(cell))
    assert cell.server_json("agent", "count")["count"] == 1


def test_ca_rotation(cell: Any) -> None:
    spiffe_id = cell.register("/rotation")
    cell.until("the workload has its identity", lambda: spiffe_id in identities(cell))

    def authority() -> bytes | None:
        context = fetch(cell)
        if context is None:
            return None
        assert_valid(context)
        leaf = next(svid.leaf for svid in context.svids if str(svid.id) == spiffe_id)
        return leaf.extensions.get_extension_for_class(AuthorityKeyIdentifier).value.key_identifier

    first = authority()
    cell.until("the workload's SVID comes from another authority", lambda: authority() not in (None, first))
