"""``authsec watch``: one line, or one JSON object a line, whenever this process's identities or bundles change."""

import argparse
import asyncio
import json
import sys
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from authsec_sdk.cli.output import add_output, context_facts
from authsec_sdk.cli.parsing import add_socket
from authsec_sdk.spiffe import X509Context
from authsec_sdk.workloadapi import WorkloadAPIClient


def register(commands: Any) -> None:
    """Add this command to the parser."""
    parser = commands.add_parser("watch", help="a line at each rotation", description=__doc__)
    add_socket(parser)
    add_output(parser)
    parser.add_argument("--count", type=int, metavar="N", help="end after N updates (default: run until interrupted)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Watch until interrupted or counted out."""
    asyncio.run(_watch(options))
    return 0


async def _watch(options: argparse.Namespace) -> None:
    seen = 0
    async with WorkloadAPIClient(options.socket) as client, aclosing(client.watch_x509_contexts()) as contexts:
        async for context in contexts:
            seen += 1
            sys.stdout.write(_line(context, options.output) + "\n")
            sys.stdout.flush()
            if seen == options.count:
                return


def _line(context: X509Context, output: str) -> str:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if output == "json":
        return json.dumps({"time": now, **context_facts(context)})
    svids = ", ".join(f"{svid.id} until {svid.not_after.isoformat()}" for svid in context.svids)
    return f"{now}  {svids or 'no identity'}; trusts {', '.join(map(str, context.bundles))}"
