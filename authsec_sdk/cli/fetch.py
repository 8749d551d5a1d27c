"""``authsec fetch``: the identities that the agent gives this process, once."""

import argparse
import asyncio
from typing import Any

from authsec_sdk.cli.output import add_output, context_facts, show
from authsec_sdk.cli.parsing import add_socket
from authsec_sdk.workloadapi import WorkloadAPIClient


def register(commands: Any) -> None:
    """Add this command to the parser."""
    parser = commands.add_parser("fetch", help="the identities this process gets", description=__doc__)
    add_socket(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Fetch and show; errors of the Workload API are the caller's to tell."""

    async def ask() -> dict[str, object]:
        async with WorkloadAPIClient(options.socket) as client:
            return context_facts(await client.fetch_x509_context(timeout=options.timeout))

    show(asyncio.run(ask()), output=options.output)
    return 0
