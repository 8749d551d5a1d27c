"""One workload of `bench.envoy_pair` in a process of its own: `server FOLDER NAME` or `client FOLDER NAME`.

Both get their identity from the agent. The server listens once for each way of serving and prints the ports; the client
does what it is told, a JSON object for each line of its standard input, and answers with another.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import uvloop
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authsec_sdk.authz import authorize_id
from authsec_sdk.tls import mtls_client_context, mtls_server_context
from authsec_sdk.workloadapi import X509Source
from bench._http11 import Client, Server

SERVER, CLIENT = "spiffe://demo.example/payments", "spiffe://demo.example/frontend"


def stdlib_context(protocol: int, own: Path, authorities: Path) -> ssl.SSLContext:
    """Return the standard library's: TLS 1.3, mutual, no tickets, and whoever the authorities signed is accepted."""
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    context.load_cert_chain(own)
    context.load_verify_locations(authorities)
    return context


def write_files(source: X509Source, folder: Path, name: str) -> tuple[Path, Path]:
    """Write what a workload has as PEM, for the standard library."""
    own, authorities = folder / f"{name}.pem", folder / f"{name}-authorities.pem"
    svid = source.x509_context.svid
    key = svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    own.touch(mode=0o600)
    own.write_bytes(key + b"".join(each.public_bytes(Encoding.PEM) for each in svid.certificates))
    authorities.write_bytes(source.x509_context.bundles.require(svid.id.trust_domain).to_pem())
    return own, authorities


async def watch(source: X509Source, file: Path) -> None:
    """Keep in a file which serial number and how many authorities the source has."""
    last = ""
    while True:
        context = source.x509_context
        bundle = context.bundles.require(context.svid.id.trust_domain)
        now = f"{context.svid.leaf.serial_number} {len(bundle.authorities)}"
        if now != last:
            file.write_text(last := now)
        await asyncio.sleep(0.1)


async def serve(source: X509Source, folder: Path, name: str) -> None:
    """Serve in every way until the end of the standard input."""
    loop = asyncio.get_running_loop()
    stdlib = stdlib_context(ssl.PROTOCOL_TLS_SERVER, *write_files(source, folder, name))
    ways: dict[str, ssl.SSLContext | None] = {
        "plain": None,
        "stdlib": stdlib,
        "ours": mtls_server_context(source, authorize_id(CLIENT)),
        "resuming": mtls_server_context(source, authorize_id(CLIENT), resumption=True),
    }
    ports = {}
    for way, context in ways.items():
        server = await loop.create_server(Server, "127.0.0.1", 0, ssl=context, backlog=512)
        ports[way] = server.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch(source, folder / f"{name}.now"))
        await loop.run_in_executor(None, sys.stdin.read)
        watching.cancel()


class Caller:
    """The client: connections kept by the name of their target, and new ones."""

    def __init__(self, source: X509Source, folder: Path, name: str) -> None:
        stdlib = stdlib_context(ssl.PROTOCOL_TLS_CLIENT, *write_files(source, folder, name))
        self._contexts: dict[str, ssl.SSLContext | None] = {
            "plain": None,
            "stdlib": stdlib,
            "ours": mtls_client_context(source, authorize_id(SERVER)),
            "resuming": mtls_client_context(source, authorize_id(SERVER), resumption=True),
        }
        self._source, self._now = source, folder / f"{name}.now"
        self._kept: dict[tuple[int, str], list[Client]] = {}

    async def _connect(self, port: int, tls: str) -> Client:
        context = self._contexts[tls]
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(
            Client, "127.0.0.1", port, ssl=context, server_hostname="bench" if context else None
        )
        return client

    async def _connections(self, port: int, tls: str, count: int) -> list[Client]:
        kept = self._kept.setdefault((port, tls), [])
        while len(kept) < count:
            kept.append(await self._connect(port, tls))
        return kept[:count]

    async def latency(self, port: int, tls: str, size: int, requests: int) -> float:
        """Return the median time of a request on one connection in microseconds."""
        (client,) = await self._connections(port, tls, 1)
        spent = []
        for _ in range(requests):
            begun = time.perf_counter_ns()
            await client.get(size)
            spent.append(time.perf_counter_ns() - begun)
        return statistics.median(spent) / 1e3

    async def load(self, port: int, tls: str, size: int, requests: int, connections: int) -> int:
        """Have so many connections make so many requests together; return how many were made."""

        async def one(client: Client) -> None:
            for _ in range(requests // connections):
                await client.get(size)

        clients = await self._connections(port, tls, connections)
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(one(client))
        return requests // connections * connections

    async def connect(self, port: int, tls: str, count: int) -> int:
        """Make so many connections, one after the other, each for one request."""
        for _ in range(count):
            client = await self._connect(port, tls)
            await client.get(100)
            client.end()
        return count

    async def through_rotations(self, targets: dict[str, tuple[int, str]], stop: str) -> dict[str, Any]:
        """Call all targets until a file is there: on one kept connection each, and on new ones."""
        calls: Counter[str] = Counter()
        failures: dict[str, list[str]] = {name: [] for name in targets}

        async def call(name: str, port: int, tls: str, kept: bool) -> None:
            client: Client | None = None
            while not Path(stop).exists():
                calls[name] += 1
                try:
                    async with asyncio.timeout(20):
                        client = client or await self._connect(port, tls)
                        await client.get(100)
                except (OSError, TimeoutError) as error:
                    failures[name].append(repr(error))
                    client = None
                    await asyncio.sleep(0.05)
                    continue
                if not kept:
                    client.end()
                    client = None
                await asyncio.sleep(0.002)

        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch(self._source, self._now))
            async with asyncio.TaskGroup() as callers:
                for name, (port, tls) in targets.items():
                    for kept in (True, False):
                        callers.create_task(call(name, port, tls, kept))
            watching.cancel()
        return {name: {"calls": calls[name], "failures": failures[name]} for name in targets}


def main() -> None:
    """Do what the arguments say."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("role", choices=("server", "client"))
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("name")
    arguments.add_argument("--uvloop", action="store_true")
    options = arguments.parse_args()
    factory = uvloop.new_event_loop if options.uvloop else asyncio.new_event_loop
    with X509Source() as source, asyncio.Runner(loop_factory=factory) as runner:
        source.wait(timeout=60)
        if options.role == "server":
            runner.run(serve(source, options.folder, options.name))
            return

        async def made() -> Caller:
            return Caller(source, options.folder, options.name)

        caller = runner.run(made())
        print("{}", flush=True)
        for line in sys.stdin:
            wanted = json.loads(line)
            print(json.dumps(runner.run(getattr(caller, wanted.pop("do"))(**wanted))), flush=True)


if __name__ == "__main__":
    main()
