"""``authsec doctor``: each thing mutual TLS needs, from the address to the SVID's life, in order."""

import argparse
import asyncio
import os
import platform
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from authsec_sdk.cli.output import Facts, add_output, show
from authsec_sdk.cli.parsing import add_socket
from authsec_sdk.errors import SpiffeError
from authsec_sdk.spiffe import X509Context
from authsec_sdk.workloadapi import WorkloadAPIClient
from authsec_sdk.workloadapi.address import UnixEndpoint


def register(commands: Any) -> None:
    """Add this command to the parser."""
    parser = commands.add_parser("doctor", help="what is wrong, and who has to act", description=__doc__)
    add_socket(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check one thing after the other; the first that fails ends it, since the rest rests on it."""
    checks: list[Facts] = []
    code = 0
    for name, check in _checks(options):
        try:
            checks.append({"check": name, "result": "ok", "detail": check()})
        except (SpiffeError, OSError) as error:
            checks.append({"check": name, "result": "FAILED", "detail": str(error)})
            code = 1
            break
    show({"checks": checks}, output=options.output)
    return code


def _checks(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], str]]]:
    contexts: list[X509Context] = []
    yield "Python and OpenSSL", _runtime
    yield "address of the Workload API", lambda: str(WorkloadAPIClient(options.socket).endpoint)
    yield "socket", lambda: _socket(options)
    yield "identity", lambda: _identity(options, contexts)
    yield "life of the identity", lambda: _life(contexts[0])


def _runtime() -> str:
    from authsec_sdk import tls  # its import runs the self-test of the hooks it rests on, and fails closed

    tested = f"{tls.SpiffeSSLContext.__name__} passed its self-test"
    return f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}; {tested}"


def _socket(options: argparse.Namespace) -> str:
    endpoint = WorkloadAPIClient(options.socket).endpoint
    if not isinstance(endpoint, UnixEndpoint) or endpoint.abstract:
        return f"{endpoint}: nothing to look at before connecting"
    path = Path(endpoint.path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: is the agent running, and its folder mounted here?")
    owner = path.stat().st_uid
    if not os.access(path, os.W_OK):
        raise PermissionError(f"{path} (owner uid {owner}) may not be written to by uid {os.geteuid()}")
    return f"{path}, owner uid {owner}"


def _identity(options: argparse.Namespace, contexts: list[X509Context]) -> str:
    async def ask() -> X509Context:
        async with WorkloadAPIClient(options.socket) as client:
            return await client.fetch_x509_context(timeout=options.timeout)

    contexts.append(asyncio.run(ask()))
    return ", ".join(str(svid.id) for svid in contexts[0].svids)


def _life(context: X509Context) -> str:
    now, svid = datetime.now(UTC), context.svid
    left, whole = (svid.not_after - now).total_seconds(), (svid.not_after - svid.not_before).total_seconds()
    return f"{left:.0f} s left of {whole:.0f}"
