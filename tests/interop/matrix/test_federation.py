"""Two trust domains: one of the cell's programs, one of ours; each follows the other's bundle, and workloads meet."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from authsec_sdk.authz import authorize_id
from authsec_sdk.tls import mtls_client_context, mtls_server_context, peer_spiffe_id
from authsec_sdk.workloadapi import X509Source

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

CA_TTL = "1h"
HERE, THERE = "interop.test", "partner.test"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _with_endpoint(conf: str, port: int, more: str = "") -> str:
    """A server's file with a `federation` section in it."""
    endpoint = f'bundle_endpoint {{ address = "127.0.0.1" port = {port} profile "https_spiffe" {{}} }}'
    return conf.replace("server {", f"server {{\n  federation {{ {endpoint} {more} }}", 1)


@pytest.fixture(scope="module")
def endpoint(cell: Any) -> int:
    """The port of the bundle endpoint that the cell's server now has."""
    port = _free_port()
    path = cell.folder / "server.conf"
    path.write_text(_with_endpoint(path.read_text(), port))
    cell.stop("server")
    cell.start_server()
    return port


@pytest.fixture(scope="module")
def partner(cell: Any, endpoint: int) -> Iterator[tuple[Any, int]]:
    """Server and agent of ours in another trust domain, which follow the cell's; the port of their endpoint."""
    folder = Path(tempfile.mkdtemp(prefix="interop-"))
    folder.chmod(0o755)
    for part in ("server/private", "server/data", "agent/public", "agent/data"):
        (folder / part).mkdir(parents=True)
        (folder / part).chmod(0o755 if part == "agent/public" else 0o700)
    port, served = _free_port(), _free_port()

    def moved(text: str) -> str:
        return text.replace(str(cell.folder), str(folder)).replace(str(cell.port), str(port)).replace(HERE, THERE)

    theirs = (cell.folder / "server.conf").read_text()
    followed = (
        f'federates_with "{HERE}" {{ bundle_endpoint_url = "https://127.0.0.1:{endpoint}" '
        f'bundle_endpoint_profile "https_spiffe" {{ endpoint_spiffe_id = "spiffe://{HERE}/spire/server" }} }}'
    )
    plain = "\n".join(line for line in theirs.splitlines() if not line.startswith("  federation {"))
    (folder / "server.conf").write_text(_with_endpoint(moved(plain), served, followed))
    (folder / "agent.conf").write_text(moved((cell.folder / "agent.conf").read_text()))
    program = {kind: [sys.executable, "-m", f"icp_{kind}"] for kind in ("server", "agent")}
    running = type(cell)("ours", "ours", folder, port, program["server"], program["agent"], trust_domain=THERE)
    try:
        running.start_server()
        (folder / "bundle.pem").write_text(running.server_cli("bundle", "show").stdout)
        token = running.server_json("token", "generate", "-spiffeID", f"spiffe://{THERE}/node")["value"]
        running.start_agent("-joinToken", token)
        yield running, served
    finally:
        running.close()
        shutil.rmtree(folder, ignore_errors=True)


def _register(cell: Any, trust_domain: str, other: str) -> str:
    spiffe_id = f"spiffe://{trust_domain}/federated"
    parent = f"spiffe://{trust_domain}/node"
    selector = f"unix:uid:{os.getuid()}"
    named = ("-parentID", parent, "-spiffeID", spiffe_id, "-selector", selector)
    cell.server_cli("entry", "create", *named, "-federatesWith", f"spiffe://{other}")
    return spiffe_id


def test_workloads_of_two_trust_domains_meet(cell: Any, partner: tuple[Any, int], tmp_path: Path) -> None:
    there, served = partner
    (tmp_path / "here.json").write_text(cell.server_cli("bundle", "show", "-format", "spiffe").stdout)
    (tmp_path / "there.pem").write_text(there.server_cli("bundle", "show").stdout)
    there.server_cli("bundle", "set", "-id", HERE, "-format", "spiffe", "-path", str(tmp_path / "here.json"))
    cell.server_cli(
        *("federation", "create", "-trustDomain", THERE, "-bundleEndpointURL", f"https://127.0.0.1:{served}"),
        *("-bundleEndpointProfile", "https_spiffe", "-endpointSpiffeID", f"spiffe://{THERE}/spire/server"),
        *("-trustDomainBundlePath", str(tmp_path / "there.pem")),
    )
    # What was given has no JWT authorities; what is fetched has.
    cell.server_cli("federation", "refresh", "-id", THERE)
    there.server_cli("federation", "refresh", "-id", HERE)
    for server, other in ((cell, THERE), (there, HERE)):
        known = server.server_json("bundle", "list", "-id", other)
        assert known["jwt_authorities"]
    here_id, there_id = _register(cell, HERE, THERE), _register(there, THERE, HERE)
    with X509Source(cell.workload_api) as here_source, X509Source(there.workload_api) as there_source:
        for source, wanted in ((here_source, here_id), (there_source, there_id)):
            source.wait(60)
            cell.until(f"{wanted} knows both", lambda source=source: len(source.x509_context.bundles) == 2)
            assert str(source.x509_context.svid.id) == wanted
        asyncio.run(_meet(here_source, here_id, there_source, there_id))
        asyncio.run(_meet(there_source, there_id, here_source, here_id))


async def _meet(client: Any, client_id: str, server: Any, server_id: str) -> None:
    seen: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(str(peer_spiffe_id(writer.get_extra_info("ssl_object"))))
        writer.write(await reader.readexactly(4))
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(
        answer, "127.0.0.1", 0, ssl=mtls_server_context(server, authorize_id(client_id))
    )
    async with listening, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(
            *listening.sockets[0].getsockname(), ssl=mtls_client_context(client, authorize_id(server_id))
        )
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"ping"
        assert str(peer_spiffe_id(writer.get_extra_info("ssl_object"))) == server_id
        writer.close()
    assert seen == [client_id]
