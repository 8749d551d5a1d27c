"""The page about TLS contexts: each block does what the page says."""

import asyncio
import re
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from authsec_sdk.authz import authorize_member_of
from authsec_sdk.policyfile import PolicyFile
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.tls import ConnectionEndedError, LiveChecks, mtls_client_context, mtls_server_context, peer_spiffe_id
from authsec_sdk.workloadapi import X509Source

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/how-to/tls.md").read_text()
BOTH, WEB, LIVE = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def names_of(block: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(block, names)
    return names


@pytest.fixture
def sources(spiffe_ca: TestCA) -> Any:
    """Two workloads, each with an agent of its own."""
    with FakeWorkloadAPI() as server_api, FakeWorkloadAPI() as client_api:
        server_api.issue(spiffe_ca, "/billing")
        client_api.issue(spiffe_ca, "/frontend")
        with X509Source(server_api.address) as server, X509Source(client_api.address) as client:
            server.wait(timeout=30)
            client.wait(timeout=30)
            yield server, client


def test_both_sides(sources: Any) -> None:
    names, (server_source, client_source) = names_of(BOTH), sources

    async def main() -> str:
        server = await names["serve"](server_source)
        async with server:
            answer: str = await names["ask"](client_source, server.sockets[0].getsockname()[1])
            return answer

    assert asyncio.run(main()) == "hello spiffe://example.org/frontend"


def test_the_web_on_one_side(sources: Any, tmp_path: Path, spiffe_ca: TestCA) -> None:
    names, (source, _) = names_of(WEB), sources
    credential = spiffe_ca.credential("/web", dns_names=("api.example",))
    (tmp_path / "fullchain.pem").write_bytes(credential.chain_pem())
    (tmp_path / "privkey.pem").write_bytes(credential.key_pem())
    assert names["for_browsers_and_workloads"](source, str(tmp_path)).generation == 1
    client = names["to_the_load_balancer"](source)
    assert client.check_hostname
    assert client.generation == 1


def test_connections_that_stay_open(sources: Any) -> None:
    names, (server_source, client_source) = names_of(LIVE), sources
    assert isinstance(names["LIVE"], LiveChecks)
    context = names["context_for"](server_source)
    client = mtls_client_context(client_source, names["authorize_if"](lambda _peer: True, "all"))
    held: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(
            target=lambda: held.append(context.wrap_socket(listener.accept()[0], server_side=True))
        )
        thread.start()
        with socket.create_connection(listener.getsockname(), timeout=30) as raw, client.wrap_socket(raw) as tls:
            thread.join(30)
            with held[0]:
                held[0].sendall(b"hello")
                assert tls.recv(5) == b"hello"
                assert names["last_answer"](held[0]) is False
                assert peer_spiffe_id(held[0]) == SpiffeID.parse("spiffe://example.org/frontend")
                assert names["deny"](context, SpiffeID.parse("spiffe://example.org/frontend")) == 1
                with pytest.raises(ConnectionEndedError):
                    held[0].sendall(b"more")


def test_a_policy_file_rechecks(sources: Any, tmp_path: Path) -> None:
    """Threat 27: what the page says of a policy that is reloaded."""
    assert "policy.subscribe(lambda _policy: context.recheck())" in PAGE
    file = tmp_path / "policy.yaml"
    rule = "version: 1\nrules:\n  - {name: all, allow: spiffe://example.org/%s, everything: true}\n"
    file.write_text(rule % "frontend")
    server_source, client_source = sources
    client = mtls_client_context(client_source, authorize_member_of("example.org"))
    held: list[Any] = []
    with PolicyFile(file, interval=0.05) as policy, socket.create_server(("127.0.0.1", 0)) as listener:
        context = mtls_server_context(server_source, policy.authorizer)
        policy.subscribe(lambda _policy: context.recheck())
        thread = threading.Thread(
            target=lambda: held.append(context.wrap_socket(listener.accept()[0], server_side=True))
        )
        thread.start()
        with socket.create_connection(listener.getsockname(), timeout=30) as raw, client.wrap_socket(raw) as tls:
            thread.join(30)
            with held[0]:
                held[0].sendall(b"hello")
                assert tls.recv(5) == b"hello"
                file.write_text(rule % "somebody-else")
                assert tls.recv(1) == b"", "ended by the reload"
                with pytest.raises(ConnectionEndedError, match="not accepted any more"):
                    held[0].sendall(b"more")


def test_every_context_of_the_library_has_its_row() -> None:
    from authsec_sdk import tls

    for name in tls.__all__:
        if name.endswith("_context") and not name.startswith("unsafe"):
            assert f"`{name}(" in PAGE, name
