"""A forced rotation of the X.509 authority in every cell: prepare, activate, taint, revoke, and nobody is shut out."""

import asyncio
from typing import Any

import pytest
from cryptography import x509

from authsec_sdk.spiffe import TrustDomain, X509Context
from authsec_sdk.workloadapi import WorkloadAPIClient

CA_TTL = "1h"  # no authority rotates by itself meanwhile
pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]


def fetch(cell: Any) -> X509Context | None:
    async def ask() -> X509Context:
        async with WorkloadAPIClient(cell.workload_api) as client:
            return await asyncio.wait_for(client.fetch_x509_context(), 10)

    try:
        return asyncio.run(ask())
    except Exception:  # it has none yet; the caller polls on
        return None


def signed_by(cell: Any, spiffe_id: str) -> str | None:
    """The authority that the workload's SVID comes from."""
    context = fetch(cell)
    for svid in context.svids if context else ():
        if str(svid.id) == spiffe_id:
            extension = svid.leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
            return (extension.value.key_identifier or b"").hex()
    return None


def serial(cell: Any) -> str:
    """Which certificate the agent calls with."""
    [agent] = cell.server_json("agent", "list")["agents"]
    return str(agent["x509svid_serial_number"])


def published(cell: Any) -> set[str]:
    context = fetch(cell)
    assert context is not None
    bundle = context.bundles[TrustDomain(cell.trust_domain)]
    return {
        root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()
        for root in bundle.authorities
    }


def test_a_forced_rotation_of_the_x509_authority(cell: Any) -> None:
    spiffe_id = cell.register("/forced", "-x509SVIDTTL", "3600")
    cell.until("the workload has its identity", lambda: signed_by(cell, spiffe_id))
    before = serial(cell)
    prepared = cell.server_json("localauthority", "x509", "prepare")["prepared_authority"]["authority_id"]
    cell.until("the new authority is published", lambda: prepared in published(cell))
    cell.server_cli("localauthority", "x509", "activate", "-authorityID", prepared)
    old = cell.server_json("localauthority", "x509", "show")["old"]["authority_id"]
    cell.server_cli("localauthority", "x509", "taint", "-authorityID", old)
    cell.until(
        "the workload's SVID has left the tainted authority", lambda: signed_by(cell, spiffe_id) not in (None, old)
    )
    cell.until("the agent itself has left it, too", lambda: serial(cell) != before)
    cell.server_cli("localauthority", "x509", "revoke", "-authorityID", old)
    cell.until("the old authority is gone", lambda: old not in published(cell))
    later = cell.register("/after-forced")
    cell.until("the agent still reaches the server", lambda: signed_by(cell, later))
    assert cell.alive("agent")
