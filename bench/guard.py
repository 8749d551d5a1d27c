"""What the guard on reading and writing adds to an exchange, in µs: nothing but TLS in memory, ours − stdlib.

An exchange is a write of 100 bytes and a read of as many on one object, after the handshake. With live recheck off, as
it is unless asked for, and beside it with what bounds a connection's life (`LiveChecks`).
"""

from __future__ import annotations

import argparse
import contextlib
import ssl
import statistics
import time

from authsec_sdk.authz import authorize_id
from authsec_sdk.tls import LiveChecks, mtls_client_context, mtls_server_context
from bench import _results
from bench._paired import bootstrap, compare
from bench._tls import CLIENT, SERVER, Workloads
from bench.handshake import Pair

CLAIM = 0.5
MESSAGE = b"x" * 100


class Ends:
    """A client and a server after their handshake, joined by buffers."""

    def __init__(self, pair: Pair) -> None:
        server_context, client_context = pair
        self._to_client, from_client, self._to_server, from_server = (ssl.MemoryBIO() for _ in range(4))
        self._from_client, self._from_server = from_client, from_server
        self.client = client_context.wrap_bio(self._to_client, from_client, server_hostname="x")
        self.server = server_context.wrap_bio(self._to_server, from_server, server_side=True)
        for _ in range(2):
            for end in (self.client, self.server):
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
                self._to_server.write(from_client.read())
                self._to_client.write(from_server.read())

    def round(self, exchanges: int) -> float:
        """Return microseconds for an exchange on one object; both do one of each."""
        client, server = self.client, self.server
        to_client, to_server = self._to_client.write, self._to_server.write
        from_client, from_server = self._from_client.read, self._from_server.read
        begun = time.process_time_ns()
        for _ in range(exchanges):
            client.write(MESSAGE)
            to_server(from_client())
            server.read(200)
            server.write(MESSAGE)
            to_client(from_server())
            client.read(200)
        return (time.process_time_ns() - begun) / exchanges / 2e3


def main() -> int:
    """Measure and print; return 1 where the claim is not met."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=60)
    arguments.add_argument("--exchanges", type=int, default=2000, help="per round")
    options = arguments.parse_args()
    workloads = Workloads()
    live = LiveChecks(maximum_age=3600)
    bounded = (
        mtls_server_context(workloads.server_source, authorize_id(CLIENT), live=live),
        mtls_client_context(workloads.client_source, authorize_id(SERVER), live=live),
    )
    stdlib, met = Ends(workloads.stdlib()), True
    for name, pair, claim in (
        ("live recheck off", workloads.ours(), CLAIM),
        ("with a maximum age", bounded, None),
    ):
        ours = Ends(pair)
        found = compare(
            "", lambda ours=ours: ours.round(options.exchanges), lambda: stdlib.round(options.exchanges),  # type: ignore[misc]
            rounds=options.rounds,
        )  # fmt: skip
        extra = [a - b for a, b in zip(found.ours, found.theirs, strict=True)]
        (low, high), middle = bootstrap(extra), statistics.median(extra)
        verdict = "" if claim is None else "NOT met" if low > claim else "undecided" if high > claim else "met"
        sides = f"{statistics.median(found.ours):.4g} − {statistics.median(found.theirs):.4g} µs"
        figure = f"{middle:.3f} [{low:.3f}, {high:.3f}] µs"
        print(
            f"guard on an exchange, {name}: {sides} = {figure}" + (f" (claim ≤ {claim:g}: {verdict})" if claim else "")
        )
        what = f"added to an exchange by the guard, {name}"
        _results.note(_results.Finding(what, sides, figure, f"≤ {claim:g} µs" if claim else "", verdict))
        met &= verdict != "NOT met"
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(_results.run("guard", main))
