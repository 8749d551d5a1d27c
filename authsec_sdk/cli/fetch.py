"""``authsec fetch``: what the agent gives this process, once: X.509-SVIDs, a JWT-SVID, WIT-SVIDs, or bundles.

Shows what may be shown. Keys and tokens go into files, where asked, which only their owner may read.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from authsec_sdk.cli import fetch_bundles
from authsec_sdk.cli.files import write_files
from authsec_sdk.cli.output import Facts, add_output, context_facts, jwt_facts, show, wit_facts
from authsec_sdk.cli.parsing import add_command, add_socket
from authsec_sdk.cli.sidecar.contents import FileContent, jwt_svid_file, x509_files
from authsec_sdk.cli.sidecar.settings import BUNDLE_MAP, RunSettings
from authsec_sdk.filesource import SPIFFE_HELPER
from authsec_sdk.jose.private_jwk import format_private_jwk
from authsec_sdk.workloadapi import WorkloadAPIClient

_EXAMPLES = (
    ("authsec fetch", "the X.509-SVIDs this process gets, as fetch x509"),
    ("authsec fetch x509 --write /run/svid", "svid.pem, svid_key.pem, svid_bundle.pem, trust_bundles.json"),
    ("authsec fetch jwt --audience payments --write token", "a JWT-SVID in a file of its own"),
    ("authsec fetch jwt --audience payments --print | curl ...", "or where only the next program sees it"),
    ("authsec fetch wit", "WIT-SVIDs, where the agent has them"),
    ("authsec fetch bundles --kind jwt", "whom this process can verify"),
    ("authsec fetch bundles --url https://b.test/bundle --trust-domain b.test", "from a federation endpoint"),
)
_Answer = TypeVar("_Answer")


def register(commands: Any) -> None:
    """Add this command to the parser."""
    parser = add_command(
        commands, "fetch", summary="the identities this process gets", description=__doc__, examples=_EXAMPLES
    )
    add_socket(parser)
    add_output(parser)
    parser.set_defaults(run=run_x509, write=None)
    kinds = parser.add_subparsers(dest="kind", metavar="KIND")

    x509 = kinds.add_parser("x509", help="X.509-SVIDs and bundles")
    _add_common(x509)
    x509.add_argument("--write", type=Path, metavar="DIR", help="the first SVID, its key and the bundles as files")
    x509.set_defaults(run=run_x509)

    jwt = kinds.add_parser("jwt", help="a JWT-SVID")
    _add_common(jwt)
    jwt.add_argument("--audience", action="append", required=True, metavar="NAME", help="who it is for; repeatable")
    jwt.add_argument("--spiffe-id", metavar="ID", help="which identity (default: the first)")
    jwt.add_argument("--write", type=Path, metavar="FILE", help="put the token there, for its owner alone")
    jwt.add_argument("--print", action="store_true", help="print the token and nothing else")
    jwt.set_defaults(run=run_jwt)

    wit = kinds.add_parser("wit", help="WIT-SVIDs with their keys")
    _add_common(wit)
    wit.add_argument("--write", type=Path, metavar="DIR", help="the first as wit_svid.token and wit_svid_key.json")
    wit.set_defaults(run=run_wit)

    bundles = kinds.add_parser("bundles", help="trust bundles, of the agent or of a federation endpoint")
    _add_common(bundles)
    fetch_bundles.add_options(bundles)


def _add_common(parser: argparse.ArgumentParser) -> None:
    """Add again what may stand before the kind too, without undoing it."""
    add_socket(parser, inherited=True)
    add_output(parser, inherited=True)


def run_x509(options: argparse.Namespace) -> int:
    """Fetch, write where asked, and show; errors of the Workload API are the caller's to tell."""
    context = asked(options, lambda client: client.fetch_x509_context(timeout=options.timeout))
    facts = context_facts(context)
    if options.write is not None:
        settings = RunSettings(folder=options.write, layout=SPIFFE_HELPER, bundle_map=BUNDLE_MAP, once=True)
        facts["written"] = write_files(options.write, x509_files(context, settings, now=datetime.now(UTC)))
    show(facts, output=options.output)
    return 0


def run_jwt(options: argparse.Namespace) -> int:
    """Fetch a JWT-SVID; its token is shown with ``--print`` alone."""
    svid = asked(
        options,
        lambda client: client.fetch_jwt_svid(options.audience, subject=options.spiffe_id, timeout=options.timeout),
    )
    facts = jwt_facts(svid)
    if options.write is not None:
        facts["written"] = write_files(
            options.write.parent, {options.write.name: FileContent(jwt_svid_file(svid), 0o600)}
        )
    if options.print:
        sys.stdout.write(svid.token + "\n")
        return 0
    show(facts, output=options.output)
    return 0


def run_wit(options: argparse.Namespace) -> int:
    """Fetch WIT-SVIDs."""
    svids = asked(options, lambda client: client.fetch_wit_svids(timeout=options.timeout))
    facts: Facts = {"svids": [wit_facts(svid) for svid in svids]}
    if options.write is not None:
        key = json.dumps(format_private_jwk(svids[0].private_key)).encode()
        names = {
            "wit_svid_key.json": FileContent(key, 0o600),
            "wit_svid.token": FileContent(svids[0].token.encode(), 0o600),
        }
        facts["written"] = write_files(options.write, names)
    show(facts, output=options.output)
    return 0


def asked(options: argparse.Namespace, ask: Callable[[WorkloadAPIClient], Awaitable[_Answer]]) -> _Answer:
    """Return what an agent answers."""

    async def once() -> _Answer:
        async with WorkloadAPIClient(options.socket) as client:
            return await ask(client)

    return asyncio.run(once())
