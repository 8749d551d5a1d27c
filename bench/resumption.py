"""Handshakes per CPU-second with resumption inside a generation, beside stdlib `ssl` without tickets and with them.

Client and server in one process, each connection from connect to the first byte from the server: over loopback with
asyncio and uvloop as programs do it, and in memory. Every resumed handshake of ours has its peer judged again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable
from typing import Any

import uvloop

from authsec_sdk.authz import authorize_id
from authsec_sdk.tls import mtls_client_context, mtls_server_context
from bench import _results
from bench._heap import keep
from bench._paired import compare
from bench._tls import CLIENT, SERVER, Workloads
from bench.handshake import Pair, over_loopback


class _Resuming(ssl.SSLContext):
    """The standard library's client, which keeps the newest session: what a program has to do by itself."""

    kept: Any = None

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """Begin with the session kept."""
        made = super().wrap_bio(*args, **{**options, "session": self.kept})
        self.last = made
        return made

    def keep(self) -> None:
        """Keep the session of the last connection, after its first data."""
        session = self.last.session
        if session is not None and session.has_ticket:
            self.kept = session


def resuming(workloads: Workloads) -> Pair:
    """Return our contexts with resumption, server and client."""
    return (
        mtls_server_context(workloads.server_source, authorize_id(CLIENT), resumption=True),
        mtls_client_context(workloads.client_source, authorize_id(SERVER), resumption=True),
    )


def with_tickets(workloads: Workloads) -> Pair:
    """Return the standard library's, with its two tickets a connection, as it comes; its client keeps sessions."""
    server, client = workloads.stdlib(kind=_Resuming)
    for context in (server, client):
        context.options &= ~ssl.OP_NO_TICKET
    server.num_tickets = 2
    return server, client


def in_memory(pair: Pair, handshakes: int) -> float:
    """Return connections per CPU-second, both sides, with one byte from the server at the end."""
    server_context, client_context = pair
    begun = time.process_time()
    for _ in range(handshakes):
        to_client, from_client, to_server, from_server = (ssl.MemoryBIO() for _ in range(4))
        client = client_context.wrap_bio(to_client, from_client, server_hostname="x")
        server = server_context.wrap_bio(to_server, from_server, server_side=True)
        for _ in range(2):
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
            to_server.write(from_client.read())
            with contextlib.suppress(ssl.SSLWantReadError):
                server.do_handshake()
            to_client.write(from_server.read())
        server.write(b"x")
        to_client.write(from_server.read())
        client.read(1)
        if isinstance(client_context, _Resuming):
            client_context.keep()
    return handshakes / (time.process_time() - begun)


def main() -> int:
    """Measure and print; nothing is claimed here: the target is in terms of another program's handshakes."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--handshakes", type=int, default=50, help="per round")
    options = arguments.parse_args()
    workloads = Workloads()
    ours, whole = resuming(workloads), workloads.ours()
    stdlib, tickets = workloads.stdlib(), with_tickets(workloads)

    def run(name: str, measure: Callable[[Pair, int], float], *others: tuple[str, Pair]) -> None:
        for other, pair in others:
            compare(
                f"connections per CPU-second, {name}: resumed ÷ {other}",
                lambda: measure(ours, options.handshakes),
                lambda pair=pair: measure(pair, options.handshakes),  # type: ignore[misc]
                rounds=options.rounds,
            ).report()

    beside = (("stdlib without tickets", stdlib), ("ours without resumption", whole))
    for name, loop in (("asyncio", asyncio.new_event_loop), ("uvloop", uvloop.new_event_loop)):
        with asyncio.Runner(loop_factory=loop) as runner:

            def loopback(pair: Pair, count: int, runner: asyncio.Runner = runner) -> float:
                return 1e6 / runner.run(over_loopback(pair, count))

            run(name, loopback, *beside)
    run("in memory", in_memory, *beside, ("stdlib resuming, nothing judged", tickets))
    return 0


if __name__ == "__main__":
    keep("resumption")
    raise SystemExit(_results.run("resumption", main))
