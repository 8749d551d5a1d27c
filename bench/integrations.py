"""Every integration ÷ the same framework with the standard library's context: steady state, and new connections.

Same certificates, TLS 1.3, CERT_REQUIRED, no tickets. A client is measured against a bare server in another process, by
the time of a call on an open connection and by its own CPU for a connection with one call. A server is a process of its
own for each way, measured by a bare client: by the time of its answers, and by its CPU for a connection.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import _calling, _identities, _results
from bench._calling import Caller
from bench._fleet import cpu_seconds
from bench._heap import KEEPING, keep
from bench._paired import Comparison, compare
from bench._serving import Way  # noqa: F401 - fails here, and not in every child, where a framework is missing
from tests.postgres_cluster import Cluster, binary

STEADY, FRESH = 1.02, 1.03
STARTS = 5

# Name -> how it is called, and the server it is called at.
CLIENTS: dict[str, tuple[Callable[[Path, bool, int], Caller], str]] = {
    "httpx": (_calling.httpx_sync, "bare"),
    "httpx, asyncio": (_calling.httpx_asyncio, "bare"),
    "aiohttp": (_calling.aiohttp, "bare"),
    "requests": (_calling.requests, "bare"),
    "urllib3": (_calling.urllib3, "bare"),
    "websockets": (_calling.websockets, "websockets"),
    "redis": (_calling.redis_sync, "redis"),
    "redis, asyncio": (_calling.redis_asyncio, "redis"),
    "grpclib": (_calling.grpclib, "grpclib"),
}
SERVERS: dict[str, tuple[str, Callable[[Path, bool, int], Caller]]] = {
    "uvicorn, h11": ("uvicorn_h11", _calling.bare),
    "uvicorn, httptools": ("uvicorn_httptools", _calling.bare),
    "hypercorn": ("hypercorn", _calling.bare),
    "aiohttp.web": ("aiohttp", _calling.bare),
    "websockets": ("websockets", _calling.websockets),
    "grpclib": ("grpclib", _calling.grpclib),
}


@contextmanager
def serving(framework: str, ours: bool, folder: Path) -> Iterator[tuple[int, int]]:
    """Run a server until left; yield its port and its process."""
    command = [sys.executable, "-m", "bench._serving", framework, "ours" if ours else "stdlib", str(folder)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **KEEPING}
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"{framework} does not start")
        yield int(line), process.pid
    finally:
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:  # Hypercorn waits for connections that have gone
            process.kill()
            process.wait()
        process.stdout.close()


class Rounds:
    """What was measured so far of a framework, ours and its own, by time and by CPU."""

    def __init__(self) -> None:
        self._steady: list[Comparison] = []
        self._fresh: list[Comparison] = []

    def measure(
        self, ours: tuple[Caller, int], stdlib: tuple[Caller, int], options: argparse.Namespace, rounds: int
    ) -> None:
        """Compare both by the time of a call and by the CPU that the process measured has for a connection."""

        def fresh(caller: Caller, pid: int) -> float:
            begun = cpu_seconds(pid)
            caller.fresh(options.connections)
            spent = cpu_seconds(pid) - begun
            return spent / float(options.connections) * 1e6

        steady = compare(
            "", lambda: ours[0].steady(options.calls), lambda: stdlib[0].steady(options.calls), rounds=rounds * 2
        )
        self._steady.append(steady)
        self._fresh.append(compare("", lambda: fresh(*ours), lambda: fresh(*stdlib), rounds=rounds))

    def report(self, name: str, *, claimed: bool = True) -> bool:
        """Print both, and return whether what is claimed of them is not refuted."""
        met = True
        for what, claim, found in (
            ("p50 of a call", STEADY, self._steady),
            ("CPU of a new connection", FRESH, self._fresh),
        ):
            ours = tuple(each for part in found for each in part.ours)
            theirs = tuple(each for part in found for each in part.theirs)
            met &= Comparison(f"{name}: {what}", ours, theirs).report(at_most=claim if claimed else None, unit="µs")
        return met


def client(name: str, folder: Path, options: argparse.Namespace) -> bool:
    """Measure a client, ours and the framework's own, at one server."""
    make, server = CLIENTS[name]
    with serving(server, False, folder) as (port, _), contextlib.ExitStack() as stack:
        both = [make(folder, ours, port) for ours in (True, False)]
        for caller in both:
            stack.callback(caller.close)
        me = os.getpid()
        rounds = Rounds()
        rounds.measure((both[0], me), (both[1], me), options, options.rounds)
        return rounds.report(f"{name}, client")


def server(name: str, folder: Path, options: argparse.Namespace) -> bool:
    """Measure two servers by one client; started several times, since no two processes are equally fast."""
    framework, make = SERVERS[name]
    rounds = Rounds()
    for _ in range(STARTS):
        with (
            serving(framework, True, folder) as (our_port, our_pid),
            serving(framework, False, folder) as (port, pid),
            contextlib.ExitStack() as stack,
        ):
            ours, stdlib = make(folder, False, our_port), make(folder, False, port)
            for caller in (ours, stdlib):
                stack.callback(caller.close)
            rounds.measure((ours, our_pid), (stdlib, pid), options, max(options.rounds // STARTS, 1))
    return rounds.report(f"{name}, server")


def databases(folder: Path, options: argparse.Namespace) -> bool:
    """Measure the clients of PostgreSQL, with a server of their own that has an SVID."""
    if binary("initdb") is None:
        print("asyncpg, psycopg: no PostgreSQL server is installed")
        return True
    met, me = True, os.getpid()
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as place, Cluster(Path(place)).running() as cluster:
        for part in ("server-chain", "server-key", "authorities"):
            copy = cluster.data / f"{part}.pem"
            copy.write_bytes((folder / f"{part}.pem").read_bytes())
            os.chown(copy, cluster.uid, cluster.gid)
            copy.chmod(0o600)
        with (cluster.data / "postgresql.conf").open("a") as conf:
            conf.write(
                "ssl=on\nssl_cert_file='server-chain.pem'\nssl_key_file='server-key.pem'\nssl_ca_file='authorities.pem'\n"
                "ssl_min_protocol_version='TLSv1.3'\n"
            )
        cluster.stop()
        cluster.start()
        for name, make, claimed in (("asyncpg", _calling.asyncpg, True), ("psycopg ÷ libpq", _calling.psycopg, False)):
            with contextlib.ExitStack() as stack:
                both = [make(folder, ours, cluster.port) for ours in (True, False)]
                for caller in both:
                    stack.callback(caller.close)
                rounds = Rounds()
                rounds.measure((both[0], me), (both[1], me), options, options.rounds)
                met &= rounds.report(f"{name}, client", claimed=claimed)
    return met


def main() -> int:
    """Measure and print; return 1 where a claim is not met."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=30)
    arguments.add_argument("--calls", type=int, default=50, help="per round, of which there are twice as many")
    arguments.add_argument("--connections", type=int, default=25, help="per round")
    arguments.add_argument("--only", nargs="*", help="names with one of these in them")
    options = arguments.parse_args()
    met = True
    with tempfile.TemporaryDirectory(prefix="icp-bench-", dir="/tmp") as place, _calling.RUNNER:
        folder = Path(place)
        _identities.write(folder)

        def wanted(name: str) -> bool:
            return not options.only or any(each in name for each in options.only)

        for name in filter(wanted, CLIENTS):
            met &= client(name, folder, options)
        if wanted("postgresql"):
            met &= databases(folder, options)
        for name in filter(wanted, SERVERS):
            met &= server(name, folder, options)
    return 0 if met else 1


if __name__ == "__main__":
    keep("integrations")
    raise SystemExit(_results.run("integrations", main))
