"""In the process ÷ beside it: our contexts and an Envoy pair, both with identities from our agent, in one run.

Client and server are processes of their own that speak HTTP/1.1 with keep-alive over raw asyncio. They meet over plain
TCP, the standard library's TLS, our contexts, and plain TCP through two Envoys that speak mutual TLS with each other:
as an HTTP connection manager and as `tcp_proxy`. What is added is what remains after the plain TCP of the same round.
CPU is that of all processes a request passes, proxies included.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench import _results
from bench._fleet import LOOPS, Fleet, cpu_seconds, until
from bench._http11 import SIZES
from bench._paired import Comparison

# (size, HTTP pair, TCP pair)
LATENCY = {100: (0.2, 0.5), 65536: (0.4, 0.65)}
CPU = {100: 0.25, 65536: 0.4}
MEMORY, RESUMED = 0.35, 0.8
SVIDS, AUTHORITIES = 20, 3
_LABEL = {"plain": "plain TCP", "stdlib": "stdlib `ssl`", "http": "Envoy pair, HTTP", "tcp": "Envoy pair, TCP only"}


@dataclass(frozen=True, slots=True)
class Way:
    """One way from client to server: where the client connects, with which TLS, and which processes it passes."""

    port: int
    tls: str
    pids: tuple[int, ...]


def ways(running: Fleet, loop: str, names: Sequence[str]) -> dict[str, Way]:
    """Return ways by their names."""
    server, client = running.servers[loop], running.clients[loop]
    ends = (server.process.pid, client.process.pid)
    proxies = tuple(each.process.pid for each in running.envoys)
    return {
        name: Way(server.said[name], name, ends)
        if name in server.said
        else Way(running.ports[loop, name], "plain", (*ends, *proxies))
        for name in names
    }


def in_turn(measure: Callable[[Way], float], among: dict[str, Way], rounds: int) -> dict[str, tuple[float, ...]]:
    """Measure all ways once in each round, each first in turn; a first round of each warms up and is dropped."""
    for way in among.values():
        measure(way)
    names, found = list(among), {name: list[float]() for name in among}
    for number in range(rounds):
        start = number % len(names)
        for name in (*names[start:], *names[:start]):
            found[name].append(measure(among[name]))
    return {name: tuple(values) for name, values in found.items()}


def label(way: str, loop: str) -> str:
    """Return the column of the table beside sidecars."""
    if way == "ours":
        return "in the process" if loop == "asyncio" else "in the process, uvloop"
    return _LABEL[way]


def facts(key: str, loop: str, found: dict[str, tuple[float, ...]]) -> None:
    """Put medians into the table beside sidecars: all on asyncio, and ours on uvloop."""
    for way, values in found.items():
        if loop == "asyncio" or (loop == "uvloop" and way == "ours"):
            _results.fact(f"{key}, {label(way, loop)}", statistics.median(values))


def added(found: dict[str, tuple[float, ...]], way: str) -> tuple[float, ...]:
    """Return what a way adds to plain TCP, round by round; the disturbed rounds in which it adds nothing count 1 %."""
    return tuple(max(a - b, b / 100) for a, b in zip(found[way], found["plain"], strict=True))


def latency(running: Fleet, loop: str, rounds: int, requests: int) -> bool:
    """Compare the p50 added on one connection."""
    met, client = True, running.clients[loop]
    among = ways(running, loop, ("plain", "stdlib", "ours", "http", "tcp"))
    for size in SIZES:

        def measure(way: Way, size: int = size) -> float:
            return float(client.ask("latency", port=way.port, tls=way.tls, size=size, requests=requests))

        found = in_turn(measure, among, rounds)
        facts(f"p50 {size}", loop, found)
        for envoy, claim, kind in zip(("http", "tcp"), LATENCY[size], ("HTTP", "TCP only"), strict=True):
            name = f"p50 added, {loop}, {size} B: ours ÷ Envoy pair, {kind}"
            met &= Comparison(name, added(found, "ours"), added(found, envoy)).report(at_most=claim, unit="µs")
        Comparison(f"p50, {loop}, {size} B: ours ÷ stdlib `ssl`", found["ours"], found["stdlib"]).report(unit="µs")
    return met


def cpu(running: Fleet, loop: str, rounds: int, requests: int) -> bool:
    """Compare the CPU that a request costs all processes, 16 connections at once."""
    met, client = True, running.clients[loop]
    among = ways(running, loop, ("plain", "stdlib", "ours", "http", "tcp"))
    for size in SIZES:

        def measure(way: Way, size: int = size) -> float:
            begun = sum(map(cpu_seconds, way.pids))
            made = client.ask("load", port=way.port, tls=way.tls, size=size, requests=requests, connections=16)
            return (sum(map(cpu_seconds, way.pids)) - begun) / int(made) * 1e3

        found = in_turn(measure, among, rounds)
        facts(f"cpu {size}", loop, found)
        extra = {way: added(found, way) for way in among if way != "plain"}
        name = f"CPU added, {loop}, {size} B"
        http = Comparison(f"{name}: ours ÷ Envoy pair, HTTP", extra["ours"], extra["http"])
        met &= http.report(at_most=CPU[size], unit="ms")
        Comparison(f"{name}: ours ÷ Envoy pair, TCP only", extra["ours"], extra["tcp"]).report(unit="ms")
        Comparison(f"{name}: stdlib `ssl` ÷ Envoy pair, TCP only", extra["stdlib"], extra["tcp"]).report(unit="ms")
        Comparison(f"{name}: ours ÷ stdlib `ssl`", extra["ours"], extra["stdlib"]).report(unit="ms")
    return met


def connections(running: Fleet, loop: str, rounds: int, count: int) -> bool:
    """Compare new connections per CPU-second, one request on each."""
    names = ("plain", "stdlib", "ours", "resuming", "http-new", "http-new-resumed", "tcp")
    client, among = running.clients[loop], ways(running, loop, names)

    def measure(way: Way) -> float:
        begun = sum(map(cpu_seconds, way.pids))
        made = client.ask("connect", port=way.port, tls=way.tls, count=count)
        return int(made) / (sum(map(cpu_seconds, way.pids)) - begun)

    found = in_turn(measure, among, rounds)
    columns = {"plain": "plain", "stdlib": "stdlib", "ours": "ours", "http": "http-new", "tcp": "tcp"}
    facts("connections", loop, {column: found[name] for column, name in columns.items()})
    facts("resumed", loop, {"ours": found["resuming"], "http": found["http-new-resumed"]})
    prefix, unit = f"new connections per CPU-second, {loop}", "/s"
    Comparison(f"{prefix}: ours ÷ Envoy pair, HTTP", found["ours"], found["http-new"]).report(unit=unit)
    Comparison(f"{prefix}: ours ÷ Envoy pair, TCP only", found["ours"], found["tcp"]).report(unit=unit)
    Comparison(f"{prefix}: stdlib `ssl` ÷ Envoy pair, HTTP", found["stdlib"], found["http-new"]).report(unit=unit)
    name = f"{prefix}: ours resumed ÷ Envoy pair's whole handshakes, HTTP"
    met = Comparison(name, found["resuming"], found["http-new"]).report(at_least=RESUMED, unit=unit)
    name = f"{prefix}: ours resumed ÷ Envoy pair's whole handshakes, TCP only"
    Comparison(name, found["resuming"], found["tcp"]).report(unit=unit)
    name = f"{prefix}: ours resumed ÷ Envoy pair resumed, HTTP"
    Comparison(name, found["resuming"], found["http-new-resumed"]).report(unit=unit)
    # What is left when TLS costs nothing: the Python at both ends, which the Envoy pair pays too.
    name = f"{prefix}: ours resumed ÷ plain TCP"
    Comparison(name, found["resuming"], found["plain"]).report(unit=unit)
    return met


def memory(running: Fleet, rounds: int) -> bool:
    """Compare what the SDK adds to a process with one idle Envoy."""
    server = running.servers["asyncio"].said
    files = [str(running.folder / f"client-asyncio{part}.pem") for part in ("", "-authorities")]
    grown = []
    for _ in range(rounds):
        ours = running.workload("ours", str(server["ours"]))
        stdlib = running.workload("stdlib", str(server["stdlib"]), *files)
        grown.append(ours["Rss"] - stdlib["Rss"])
    _results.fact("memory, in the process", statistics.median(grown))
    _results.fact("memory, Envoy pair, HTTP", running.idle_envoy)
    name = "resident memory: what SDK, source, contexts and a connection add to stdlib `ssl` ÷ an idle Envoy with SDS"
    return Comparison(name, tuple(grown), (running.idle_envoy,) * rounds).report(at_most=MEMORY, unit="MiB")


def rotations(running: Fleet, svids: int, authorities: int) -> bool:
    """Rotate the identities of all under load, ours and Envoys at the same instants, and count what fails."""
    names = {"ours": "ours", "http-new": "Envoy pair, HTTP", "tcp": "Envoy pair, TCP only"}
    targets = {name: (way.port, way.tls) for name, way in ways(running, "asyncio", list(names)).items()}
    client, stop = running.clients["asyncio"], running.folder / "stop"
    client.tell("through_rotations", targets=targets, stop=str(stop))
    until((running.folder / "client-asyncio.now").exists)

    def and_all_changed(change: object, settle: float = 0.3) -> None:
        before = running.now()
        running.call(change)
        until(lambda: all(a != b for a, b in zip(before, running.now(), strict=True)))
        time.sleep(settle)

    def authorities_known(count: int) -> None:
        until(lambda: all(each.endswith(f" {count}") for each in running.now()[:2]))
        time.sleep(0.5)  # the Envoys are told at the same instant

    for number in range(svids):
        and_all_changed(running.rotate_svids)
        if (number + 1) % (svids // authorities) == 0 and number // (svids // authorities) < authorities:
            running.call(running.prepare_ca)
            authorities_known(2)
            and_all_changed(running.activate_ca, 0.5)
            running.call(running.revoke_ca)
            authorities_known(1)
    stop.touch()
    met = True
    for name, found in client.answer().items():
        failed = found["failures"]
        what = f"failed requests over {svids} rotations of SVIDs and {authorities} of the CA: {names[name]}"
        met &= _results.limit(what, len(failed), "failed", at_most=0, sides=f"of {found['calls']:,}") or name != "ours"
        column = "in the process" if name == "ours" else names[name]
        _results.fact(f"failed, {column}", len(failed))
        _results.fact(f"requests, {column}", found["calls"])
        for each in failed[:3]:
            print(f"  {each}")
    return met


def main() -> int:
    """Measure and print; return 1 where a claim is not met."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--quick", action="store_true", help="see that it works: the figures mean nothing")
    parts = ("memory", "latency", "cpu", "connections", "rotations")
    arguments.add_argument("--only", choices=parts, nargs="*", default=parts)
    options = arguments.parse_args()
    rounds = 3 if options.quick else options.rounds
    part = 10 if options.quick else 1
    met = True
    with Fleet() as running:
        if "memory" in options.only:
            met &= memory(running, 3 if options.quick else 7)
        for loop in LOOPS[:2]:
            if "latency" in options.only:
                met &= latency(running, loop, rounds, 300 // part)
            if "cpu" in options.only:
                met &= cpu(running, loop, rounds, 1600 // part)
            if "connections" in options.only:
                met &= connections(running, loop, rounds, 60 // part)
        if "latency" in options.only:
            for loop in LOOPS[2:]:
                met &= latency(running, loop, max(rounds // 2, 3), 300 // part)
        if "rotations" in options.only:
            met &= rotations(running, SVIDS if not options.quick else 6, AUTHORITIES)
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(_results.run("envoy_pair", main))
