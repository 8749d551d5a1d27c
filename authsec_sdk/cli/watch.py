"""``authsec watch``: one line, or one JSON object a line, whenever what the agent gives this process changes."""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from authsec_sdk.cli.output import Facts, add_output, context_facts, wit_facts
from authsec_sdk.cli.parsing import add_command, add_socket
from authsec_sdk.spiffe import WITSVID, BundleSet, JWTBundle, WITBundle, X509Bundle, X509Context
from authsec_sdk.workloadapi import WorkloadAPIClient

_EXAMPLES = (
    ("authsec watch", "a line at each rotation of the X.509-SVIDs, until interrupted"),
    ("authsec watch jwt-bundles --output json", "the keys that verify JWT-SVIDs, an object a line"),
    ("authsec watch --count 2", "until the next rotation"),
)
_KINDS: dict[str, Callable[[WorkloadAPIClient], AsyncGenerator[Any, None]]] = {
    "x509": WorkloadAPIClient.watch_x509_contexts,
    "x509-bundles": WorkloadAPIClient.watch_x509_bundles,
    "jwt-bundles": WorkloadAPIClient.watch_jwt_bundles,
    "wit": WorkloadAPIClient.watch_wit_svids,
    "wit-bundles": WorkloadAPIClient.watch_wit_bundles,
}


def register(commands: Any) -> None:
    """Add this command to the parser."""
    parser = add_command(commands, "watch", summary="a line at each rotation", description=__doc__, examples=_EXAMPLES)
    parser.add_argument(
        "kind", nargs="?", choices=tuple(_KINDS), default="x509", metavar="KIND", help=", ".join(_KINDS)
    )
    add_socket(parser, timeout=None)
    add_output(parser)
    parser.add_argument("--count", type=int, metavar="N", help="end after N updates (default: run until interrupted)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Watch until interrupted or counted out."""
    asyncio.run(_watch(options))
    return 0


async def _watch(options: argparse.Namespace) -> None:
    seen = 0
    async with WorkloadAPIClient(options.socket) as client, aclosing(_KINDS[options.kind](client)) as updates:
        async for update in updates:
            seen += 1
            sys.stdout.write(_line(update, options.output) + "\n")
            sys.stdout.flush()
            if seen == options.count:
                return


def _line(update: object, output: str) -> str:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if output == "json":
        return json.dumps({"time": now, **_facts(update)})
    return f"{now}  {_words(update)}"


def _facts(update: object) -> Facts:
    match update:
        case X509Context():
            return context_facts(update)
        case BundleSet():
            return {"bundles": {str(domain): _names(update[domain]) for domain in sorted(update)}}
        case _:
            return {"svids": [wit_facts(svid) for svid in _wits(update)]}


def _words(update: object) -> str:
    match update:
        case X509Context():
            svids = ", ".join(f"{svid.id} until {svid.not_after.isoformat()}" for svid in update.svids)
            return f"{svids or 'no identity'}; trusts {', '.join(map(str, update.bundles))}"
        case BundleSet():
            return "; ".join(f"{domain}: {len(update[domain])} authorities" for domain in sorted(update)) or "none"
        case _:
            return ", ".join(f"{svid.id} until {svid.expires_at.isoformat()}" for svid in _wits(update))


def _names(bundle: X509Bundle | JWTBundle | WITBundle) -> list[str]:
    if isinstance(bundle, X509Bundle):
        return [f"{authority.serial_number:x}" for authority in bundle.authorities]
    return sorted(bundle.authorities)


def _wits(update: object) -> tuple[WITSVID, ...]:
    assert isinstance(update, tuple)
    return update
