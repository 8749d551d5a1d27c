"""A workload with one connection that then says how much memory it has: `ours PORT` or `stdlib PORT OWN AUTHORITIES`.

Both do the same: asyncio, one request in mutual TLS. What one imports beyond the other is what the SDK adds.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import ssl
import sys
from pathlib import Path

from bench._http11 import Client


async def call(context: ssl.SSLContext, port: int) -> dict[str, float]:
    """Make the request and return the memory of this process while the connection is open, in MiB."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(Client, "127.0.0.1", port, ssl=context, server_hostname="bench")
    await client.get(100)
    gc.collect()
    text = Path("/proc/self/smaps_rollup").read_text()
    found = dict(re.findall(r"^(Rss|Pss|Anonymous):\s+(\d+) kB$", text, re.MULTILINE))
    client.end()
    return {name: int(kib) / 1024 for name, kib in found.items()}


def stdlib(port: int, own: str, authorities: str) -> dict[str, float]:
    """Use the standard library's TLS."""
    made = []
    for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
        context = ssl.SSLContext(protocol)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(own)
        context.load_verify_locations(authorities)
        made.append(context)
    return asyncio.run(call(made[1], port))


def ours(port: int) -> dict[str, float]:
    """Use the SDK: a source on the agent's socket, a context for serving and one for calling."""
    from authsec_sdk.authz import authorize_id
    from authsec_sdk.tls import mtls_client_context, mtls_server_context
    from authsec_sdk.workloadapi import X509Source

    with X509Source() as source:
        source.wait(timeout=60)
        serving = mtls_server_context(source, authorize_id("spiffe://demo.example/frontend"))
        assert serving.generation
        calling = mtls_client_context(source, authorize_id("spiffe://demo.example/payments"))
        return asyncio.run(call(calling, port))


if __name__ == "__main__":
    way, port, *files = sys.argv[1:]
    print(json.dumps(stdlib(int(port), *files) if way == "stdlib" else ours(int(port))))
