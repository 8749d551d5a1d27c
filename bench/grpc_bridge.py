"""A unary call of 100 bytes ÷ the same with grpcio's native TLS: p50, and CPU of both ends.

Native TLS here is one that verifies a host name, from files' contents that never rotate: what grpcio can do by itself.
Two things are put beside it: a bridged channel to that same native server (what the bridge costs), and a bridged
channel to our server (what both cost). Servers run in a process of their own, as they do; `--one-process` has them in
the client's, where all threads wait for one another.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.grpc import mtls_aio_channel, mtls_channel, mtls_server
from bench import _results
from bench._paired import Comparison
from bench._tls import CLIENT, SERVER, Workloads

CLAIM = 1.15
MESSAGE = b"x" * 100
_OVERRIDE = [("grpc.ssl_target_name_override", "bench.test")]


def _pem(credential: Any) -> tuple[bytes, bytes]:
    key = credential.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return key, b"".join(certificate.public_bytes(Encoding.PEM) for certificate in credential.certificates)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the servers are."""

    ours: int
    native: int


@contextlib.contextmanager
def _servers(workloads: Workloads) -> Iterator[Ports]:
    """Run both: one that follows a source and asks a policy, and one of grpcio's own."""
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(lambda request, _context: request),
        "CPU": grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"%d" % time.process_time_ns()),
    }
    with ThreadPoolExecutor(4) as pool:
        ours: Any = mtls_server(pool, workloads.server_source, authorize_id(CLIENT))
        native: Any = grpc.server(pool)
        named = workloads.ca.credential(SERVER, dns_names=("bench.test",))
        credentials = grpc.ssl_server_credentials(
            [_pem(named)], workloads.ca.bundle().to_pem(), require_client_auth=True
        )
        ports = Ports(ours.add_mtls_port("127.0.0.1:0"), native.add_secure_port("127.0.0.1:0", credentials))
        for server in (ours, native):
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("b.B", handlers),))
            server.start()
        try:
            yield ports
        finally:
            for server in (ours, native):
                server.stop(0).wait()


@contextlib.contextmanager
def _servers_beside(workloads: Workloads) -> Iterator[Ports]:
    """Run them in a child, forked before grpcio has a thread."""
    here, there = multiprocessing.Pipe()
    child = os.fork()
    if not child:
        with _servers(workloads) as ports:
            there.send(ports)
            here.close()
            with contextlib.suppress(EOFError):
                there.recv()
        os._exit(0)
    there.close()
    try:
        yield here.recv()
    finally:
        here.close()
        os.waitpid(child, 0)


class Method:
    """The echo of one channel, and what the CPU clocks of both processes say."""

    def __init__(self, channel: Any) -> None:
        self.echo = channel.unary_unary("/b.B/Echo")
        self.clock = channel.unary_unary("/b.B/CPU")


def _cpu(clock: int, beside: bool) -> int:
    return time.process_time_ns() + (clock if beside else 0)


def _sync_round(method: Method, calls: int, beside: bool) -> tuple[float, float]:
    spent, cpu = [], _cpu(int(method.clock(b"")), beside)
    for _ in range(calls):
        begun = time.perf_counter_ns()
        method.echo(MESSAGE)
        spent.append(time.perf_counter_ns() - begun)
    return statistics.median(spent) / 1e3, (_cpu(int(method.clock(b"")), beside) - cpu) / calls / 1e3


async def _aio_round(method: Method, calls: int, beside: bool) -> tuple[float, float]:
    spent, cpu = [], _cpu(int(await method.clock(b"")), beside)
    for _ in range(calls):
        begun = time.perf_counter_ns()
        await method.echo(MESSAGE)
        spent.append(time.perf_counter_ns() - begun)
    return statistics.median(spent) / 1e3, (_cpu(int(await method.clock(b"")), beside) - cpu) / calls / 1e3


Round = Callable[[Method], tuple[float, float]]


def _measured(kind: str, run: Round, channels: tuple[Any, ...], rounds: int) -> bool:
    """Run rounds of all three (native; bridged; and to our server), each first in turn; each gives p50 and CPU."""
    ways = [Method(channel) for channel in channels]
    for way in ways:
        run(way)
    measured = []
    for number in range(rounds):
        order = ways[number % 3 :] + ways[: number % 3]
        found = {id(way): run(way) for way in order}
        measured.append(tuple(found[id(way)] for way in ways))
    met = True
    for index, name in ((1, "bridge alone"), (2, "bridge and our server")):
        for part, what in enumerate(("p50", "CPU")):
            ratio = Comparison(
                f"grpcio ÷ native TLS, {kind}, {name}, {what}",
                tuple(each[index][part] for each in measured),
                tuple(each[0][part] for each in measured),
            )
            met &= ratio.report(at_most=CLAIM, unit="µs")
    return met


def main() -> int:
    """Measure and print; return 1 where the claim is not met."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=39)
    arguments.add_argument("--calls", type=int, default=300, help="per round")
    arguments.add_argument("--one-process", action="store_true", help="servers and client in one process")
    options = arguments.parse_args()
    beside = not options.one_process
    workloads = Workloads()
    with (_servers_beside if beside else _servers)(workloads) as ports:
        source, peer = workloads.client_source, authorize_id(SERVER)
        ours, native = f"127.0.0.1:{ports.ours}", f"127.0.0.1:{ports.native}"
        credentials = grpc.ssl_channel_credentials(
            workloads.ca.bundle().to_pem(), *_pem(workloads.client_source.x509_context.svid)
        )
        with (
            grpc.secure_channel(native, credentials, options=_OVERRIDE) as a,
            mtls_channel(native, source, peer) as b,
            mtls_channel(ours, source, peer) as c,
        ):
            met = _measured(
                "threads",
                lambda method: _sync_round(method, options.calls, beside),
                (a, b, c),
                options.rounds,
            )
        with asyncio.Runner() as runner:

            async def opened() -> tuple[Any, ...]:
                return (
                    grpc.aio.secure_channel(native, credentials, options=_OVERRIDE),
                    mtls_aio_channel(native, source, peer),
                    mtls_aio_channel(ours, source, peer),
                )

            channels = runner.run(opened())
            met &= _measured(
                "asyncio",
                lambda method: runner.run(_aio_round(method, options.calls, beside)),
                channels,
                options.rounds,
            )
            for channel in channels:
                runner.run(channel.close())
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(_results.run("grpc_bridge", main))
