"""Requests over rotating identities: httpx calls uvicorn, a third on new connections, and none may fail.

Each rotation has three steps, as a real one: a new root joins the bundles; both sides get SVIDs of it; the old root
leaves. Between steps both sides settle, since no two processes rotate at the same instant.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import time
from collections import Counter
from collections.abc import MutableMapping
from typing import Any

import httpx
import uvicorn

from bench import _results
from bench._tls import CLIENT, SERVER, Workloads


async def _application(scope: MutableMapping[str, Any], _receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


class Load:
    """Clients that call until told to stop, and what came of it."""

    def __init__(self, workloads: Workloads, url: str) -> None:
        self._client_context = workloads.ours()[1]
        self._url = url
        self.calls = self.connections = 0
        self.failures: Counter[str] = Counter()
        self.stopping = False

    async def caller(self) -> None:
        """Call and call again: every third time on a connection of its own."""
        async with httpx.AsyncClient(verify=self._client_context.view()) as kept:
            while not self.stopping:
                self.calls += 1
                try:
                    if self.calls % 3:
                        answer = await kept.get(self._url)
                    else:
                        self.connections += 1
                        async with httpx.AsyncClient(verify=self._client_context.view()) as once:
                            answer = await once.get(self._url)
                    if answer.text != "ok":
                        self.failures[f"status {answer.status_code}"] += 1
                except httpx.HTTPError as error:
                    self.failures[repr(error)] += 1


async def run(rotations: int, calls: int, settle: float, callers: int) -> Load:
    """Serve, call and rotate until both counts are reached."""
    workloads = Workloads()
    server_context = workloads.ours()[0]
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            _application,
            ssl_context_factory=lambda _config, _default: server_context,
            log_level="error",
            lifespan="off",
        )
        server = uvicorn.Server(config)
        load = Load(workloads, f"https://127.0.0.1:{listener.getsockname()[1]}/")
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[listener]))
            while not server.started:
                await asyncio.sleep(0.01)
            async with asyncio.TaskGroup() as clients:
                for _ in range(callers):
                    clients.create_task(load.caller())
                for _ in range(rotations):
                    await _rotate(workloads, settle)
                while load.calls < calls:
                    await asyncio.sleep(0.1)
                load.stopping = True
            server.should_exit = True
    return load


async def _rotate(workloads: Workloads, settle: float) -> None:
    server, client = workloads.server_source, workloads.client_source
    old = {SERVER: server.x509_context.svids, CLIENT: client.x509_context.svids}
    workloads.ca.rotate()
    for source, spiffe_id in ((server, SERVER), (client, CLIENT)):  # old SVID, both roots
        source.publish(type(source.x509_context)(old[spiffe_id], workloads.snapshot(spiffe_id).bundles))
    await asyncio.sleep(settle)
    server.publish(workloads.snapshot(SERVER))
    client.publish(workloads.snapshot(CLIENT))
    await asyncio.sleep(settle)
    workloads.ca.remove_old_roots()
    for source in (server, client):
        spiffe_id = str(source.x509_context.svid.id)
        source.publish(type(source.x509_context)(source.x509_context.svids, workloads.snapshot(spiffe_id).bundles))
    await asyncio.sleep(settle)


def main() -> int:
    """Measure and print; return 1 if a request failed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rotations", type=int, default=50)
    arguments.add_argument("--calls", type=int, default=10_000)
    arguments.add_argument("--settle", type=float, default=0.2, help="seconds between the steps of a rotation")
    arguments.add_argument("--callers", type=int, default=4)
    options = arguments.parse_args()
    begun = time.monotonic()
    load = asyncio.run(run(options.rotations, options.calls, options.settle, options.callers))
    failed = sum(load.failures.values())
    what = f"httpx and uvicorn, {options.rotations} rotations with new roots in {time.monotonic() - begun:.0f} s"
    sides = f"{load.calls:,} requests, {load.connections:,} on new connections"
    _results.limit(what, failed, "failed", at_most=0, sides=sides)
    for failure, count in load.failures.most_common(5):
        print(f"  {count} x {failure}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(_results.run("rotation_under_load", main))
