"""A unary call of 100 bytes, a bridged channel and our server ÷ grpcio's native TLS: p50, and CPU of both ends.

Native TLS here is one that verifies a host name, from files' contents that never rotate: what grpcio can do by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.grpc import mtls_aio_channel, mtls_channel, mtls_server
from bench._paired import Comparison
from bench._tls import CLIENT, SERVER, Workloads

CLAIM = 1.15
MESSAGE = b"x" * 100
_OVERRIDE = [("grpc.ssl_target_name_override", "bench.test")]


def _pem(credential: Any) -> tuple[bytes, bytes]:
    key = credential.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return key, b"".join(certificate.public_bytes(Encoding.PEM) for certificate in credential.certificates)


def _register(server: Any) -> None:
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(lambda request, _context: request)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("b.B", handlers),))


class Servers:
    """Both servers, and credentials for native channels."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.workloads = Workloads()
        root = self.workloads.ca.bundle().to_pem()
        named = self.workloads.ca.credential(SERVER, dns_names=("bench.test",))
        self.ours: Any = mtls_server(pool, self.workloads.server_source, authorize_id(CLIENT))
        self.native: Any = grpc.server(pool)
        credentials = grpc.ssl_server_credentials([_pem(named)], root, require_client_auth=True)
        self.our_port = self.ours.add_mtls_port("127.0.0.1:0")
        self.native_port = self.native.add_secure_port("127.0.0.1:0", credentials)
        self.native_credentials = grpc.ssl_channel_credentials(
            root, *_pem(self.workloads.client_source.x509_context.svid)
        )
        for server in (self.ours, self.native):
            _register(server)
            server.start()

    def stop(self) -> None:
        """Stop both."""
        for server in (self.ours, self.native):
            server.stop(0).wait()


def _measured(name: str, ours: Callable[[], Any], native: Callable[[], Any], rounds: int) -> bool:
    """Run rounds of both in turn; each gives p50 and CPU seconds."""
    ours(), native()
    pairs = []
    for number in range(rounds):
        first, second = (ours, native) if number % 2 else (native, ours)
        a, b = first(), second()
        pairs.append((a, b) if number % 2 else (b, a))
    met = True
    for index, what in enumerate(("p50", "CPU")):
        ratio = Comparison(
            f"{name}, {what}", *(tuple(each[index] for each in side) for side in zip(*pairs, strict=True))
        )
        met &= ratio.report(at_most=CLAIM, unit="µs")
    return met


def _sync_round(method: Any, calls: int) -> tuple[float, float]:
    spent, cpu = [], time.process_time_ns()
    for _ in range(calls):
        begun = time.perf_counter_ns()
        method(MESSAGE)
        spent.append(time.perf_counter_ns() - begun)
    return statistics.median(spent) / 1e3, (time.process_time_ns() - cpu) / calls / 1e3


async def _aio_round(method: Any, calls: int) -> tuple[float, float]:
    spent, cpu = [], time.process_time_ns()
    for _ in range(calls):
        begun = time.perf_counter_ns()
        await method(MESSAGE)
        spent.append(time.perf_counter_ns() - begun)
    return statistics.median(spent) / 1e3, (time.process_time_ns() - cpu) / calls / 1e3


def main() -> int:
    """Measure and print; return 1 where the claim is not met."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=40)
    arguments.add_argument("--calls", type=int, default=300, help="per round")
    options = arguments.parse_args()
    with ThreadPoolExecutor(4) as pool:
        servers = Servers(pool)
        source, peer = servers.workloads.client_source, authorize_id(SERVER)
        ours, native = f"127.0.0.1:{servers.our_port}", f"127.0.0.1:{servers.native_port}"
        with (
            mtls_channel(ours, source, peer) as a,
            grpc.secure_channel(native, servers.native_credentials, options=_OVERRIDE) as b,
        ):
            one, other = a.unary_unary("/b.B/Echo"), b.unary_unary("/b.B/Echo")
            met = _measured(
                "threads",
                lambda: _sync_round(one, options.calls),
                lambda: _sync_round(other, options.calls),
                options.rounds,
            )
        with asyncio.Runner() as runner:

            async def open_channels() -> tuple[Any, Any]:
                bridged = mtls_aio_channel(ours, source, peer)
                return bridged, grpc.aio.secure_channel(native, servers.native_credentials, options=_OVERRIDE)

            c, d = runner.run(open_channels())
            three, four = c.unary_unary("/b.B/Echo"), d.unary_unary("/b.B/Echo")
            met &= _measured(
                "asyncio",
                lambda: runner.run(_aio_round(three, options.calls)),
                lambda: runner.run(_aio_round(four, options.calls)),
                options.rounds,
            )
            runner.run(c.close())
            runner.run(d.close())
        servers.stop()
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
