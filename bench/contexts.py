"""What many contexts and sources cost: memory of a further context, threads of a thousand sources on one socket.

A further context has the identity of its source and up to ten authorities, and has been used once: both its facade and
its newest generation are there. Memory is the private memory of the process, grown by some hundred of them.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import re
import threading
from pathlib import Path

from authsec_sdk.authz import authorize_member_of
from authsec_sdk.spiffe import BundleSet, X509Context, X509ContextHolder
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.tls import SpiffeSSLContext, mtls_client_context, mtls_server_context
from authsec_sdk.workloadapi import X509Source
from bench import _results

KIB_A_CONTEXT, THREADS = 50.0, 10


def private_kib() -> int:
    """Return the private memory of this process in KiB."""
    gc.collect()
    text = Path("/proc/self/smaps_rollup").read_text()
    return sum(int(found) for found in re.findall(r"^Private_\w+:\s+(\d+) kB$", text, re.MULTILINE))


def memory_of_contexts(authorities: int, contexts: int, *, server: bool, alike: bool) -> float:
    """Return KiB for each further context of one source, whose own domain has so many authorities.

    With the settings of all others, or each with ALPN of its own, so that it shares nothing with them.
    """
    ca = TestCA("bench.test")
    for _ in range(authorities - 1):
        ca.rotate()
    source = X509ContextHolder(X509Context((ca.svid("/x"),), BundleSet.of(ca.bundle())))
    make = mtls_server_context if server else mtls_client_context
    kept: list[SpiffeSSLContext] = []

    def grow(count: int) -> None:
        for _ in range(count):
            alpn = () if alike else (f"protocol-{len(kept)}",)
            context = make(source, authorize_member_of("bench.test"), alpn=alpn)
            assert context.generation == 1
            kept.append(context)

    grow(50)  # what is loaded and cached once for all
    before = private_kib()
    grow(contexts)
    return (private_kib() - before) / contexts


def threads_of_sources(count: int) -> int:
    """Return how many threads so many sources on one socket add."""
    with FakeWorkloadAPI() as api:
        api.issue(TestCA("bench.test"), "/x")
        before = threading.active_count()
        sources = [X509Source(api.address) for _ in range(count)]
        try:
            for source in sources:
                source.start()
            for source in sources:
                source.wait(timeout=120)
            return threading.active_count() - before
        finally:
            for source in sources:
                source.close()


def main() -> int:
    """Measure and print; return 1 where a claim is not met."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--contexts", type=int, default=1000)
    arguments.add_argument("--sources", type=int, default=1000)
    options = arguments.parse_args()
    met, fresh = True, multiprocessing.get_context("spawn")
    for server in (False, True):
        for authorities in (1, 10):
            with fresh.Pool(1) as process:  # whose heap holds nothing of the measurement before
                each, alone = (
                    process.apply(
                        memory_of_contexts, (authorities, options.contexts), {"server": server, "alike": alike}
                    )
                    for alike in (True, False)
                )
            many = "1 authority" if authorities == 1 else f"{authorities} authorities"
            what = f"memory of a further context, {'server' if server else 'client'}, {many}"
            met &= _results.limit(what, each, "KiB", at_most=KIB_A_CONTEXT)
            met &= _results.limit(f"{what}, with settings that no other has", alone, "KiB", at_most=KIB_A_CONTEXT)
    added = threads_of_sources(options.sources)
    met &= _results.limit(f"{options.sources:,} sources on one socket", added, "threads", at_most=THREADS)
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(_results.run("contexts", main))
