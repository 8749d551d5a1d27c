"""Clients in each cell: go-spiffe and py-spiffe get their identities from its agent, and go-spiffe and our SDK meet."""

import json
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from authsec_sdk.authz import authorize_id
from authsec_sdk.tls import PeerVerificationError, mtls_client_context, mtls_server_context
from authsec_sdk.workloadapi import X509Source

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

ROTATIONS = 2


@contextmanager
def go(program: Path, *arguments: str) -> Iterator[Callable[[], Any]]:
    """Run a subcommand of the Go peer; yield a function that waits for its next line."""
    lines: queue.Queue[str] = queue.Queue()
    with subprocess.Popen(
        [str(program), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.put(line)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield lambda: lines.get(timeout=120)
        finally:
            process.kill()
            reader.join()


@pytest.fixture
def identity(cell: Any) -> str:
    """One identity for this user's processes, of a short life."""
    spiffe_id = f"spiffe://{cell.trust_domain}/clients"
    if cell.server_json("entry", "count", "-spiffeID", spiffe_id)["count"] == 0:
        cell.register("/clients", "-x509SVIDTTL", "20")
    return spiffe_id


@pytest.fixture
def source(cell: Any, identity: str) -> Iterator[X509Source]:
    with X509Source(cell.workload_api) as source:
        source.wait(timeout=60)
        yield source


def test_go_spiffe_watches_rotations(cell: Any, identity: str, go_peer: Path) -> None:
    serials: set[str] = set()
    with go(go_peer, "watch", "-workload-api", cell.workload_api) as line:
        while len(serials) <= ROTATIONS:
            update = json.loads(line())
            assert "no identity issued" in update.get("error", "no identity issued")
            for svid in update.get("svids", ()):
                assert svid["id"] == identity
                assert update["bundles"][cell.trust_domain] >= 1
                serials.add(svid["serial"])


def test_our_client_and_go_spiffe_server(cell: Any, identity: str, source: X509Source, go_peer: Path) -> None:
    context = mtls_client_context(source, authorize_id(identity))
    servers: set[bytes] = set()
    clients: set[str] = set()
    with go(go_peer, "tls-server", "-workload-api", cell.workload_api, "-accept", identity) as line:
        address = line().split()[1]
        host, port = address.rsplit(":", 1)
        while len(servers) <= ROTATIONS or len(clients) <= ROTATIONS:
            with (
                socket.create_connection((host, int(port)), timeout=10) as raw,
                context.wrap_socket(raw) as connection,
                connection.makefile() as reader,
            ):
                greeting = json.loads(reader.readline())
                assert greeting["peer"] == identity
                leaf = connection.getpeercert(binary_form=True)
                assert leaf is not None
                servers.add(leaf)
                clients.add(greeting["serial"])


def test_our_server_and_go_spiffe_client(cell: Any, identity: str, source: X509Source, go_peer: Path) -> None:
    context = mtls_server_context(source, authorize_id(identity))
    servers: set[str] = set()
    clients: set[bytes] = set()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        with go(
            go_peer, "tls-client", "-workload-api", cell.workload_api, "-accept", identity, "-target", target
        ) as line:
            while len(servers) <= ROTATIONS or len(clients) <= ROTATIONS:
                accepted, _ = listener.accept()
                with accepted, context.wrap_socket(accepted, server_side=True) as connection:
                    leaf = connection.getpeercert(binary_form=True)
                    assert leaf is not None
                    clients.add(leaf)
                    connection.sendall(b"welcome\n")
                answer = json.loads(line())
                assert (answer["peer"], answer["said"]) == (identity, "welcome\n"), answer
                servers.add(answer["serial"])


def test_each_side_refuses_the_wrong_id(cell: Any, identity: str, source: X509Source, go_peer: Path) -> None:
    other = f"spiffe://{cell.trust_domain}/other"
    with go(go_peer, "tls-server", "-workload-api", cell.workload_api, "-accept", other) as line:
        host, port = line().split()[1].rsplit(":", 1)
        context = mtls_client_context(source, authorize_id(identity))
        with socket.create_connection((host, int(port)), timeout=10) as raw, context.wrap_socket(raw) as connection:
            with pytest.raises(OSError, match=r"(?i)alert"):
                connection.recv(100)
        assert identity in json.loads(line())["error"]
        context = mtls_client_context(source, authorize_id(other))
        with socket.create_connection((host, int(port)), timeout=10) as raw:
            with pytest.raises(PeerVerificationError, match=identity):
                context.wrap_socket(raw)


def test_py_spiffe_fetches(cell: Any, identity: str) -> None:
    code = (
        "from spiffe import WorkloadApiClient\n"
        "with WorkloadApiClient() as client:\n"
        "    print(client.fetch_x509_svid().spiffe_id)\n"
    )
    cell.until("the agent knows the entry", lambda: identity in cell.agent_cli("api", "fetch", check=False).stdout)
    env = {**os.environ, "SPIFFE_ENDPOINT_SOCKET": cell.workload_api}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == identity
