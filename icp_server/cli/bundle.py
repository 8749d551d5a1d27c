"""`icp-server bundle show`: the trust domain's own bundle, as PEM or as a SPIFFE bundle document."""

from __future__ import annotations

import base64
import json
import textwrap
from collections.abc import Sequence

from authsec_sdk.proto.spire import bundle_grpc, bundle_pb2, types_pb2
from authsec_sdk.rpc import Channel
from icp_server.cli.api import TIMEOUT, APICommand, CommandError
from icp_server.cli.output import Console, quote

PEM = "pem"
SPIFFE = "spiffe"


def show(arguments: Sequence[str]) -> int:
    """Print the bundle."""
    command = APICommand(
        "bundle show",
        summary="Prints the server's own trust bundle, which agents bootstrap with.",
        examples=("> bundle.pem", "-format spiffe"),
    )
    format_ = command.flags.string(
        "format",
        f'The format to show the bundle (only pretty output format supports this flag). Either "{PEM}" or "{SPIFFE}".',
        PEM,
    )

    async def talk(channel: Channel, console: Console) -> None:
        wanted = format_.value.lower() or PEM
        if not console.wants_json and wanted not in (PEM, SPIFFE):
            raise CommandError(f"invalid format: {quote(wanted)}")
        bundle = await bundle_grpc.BundleStub(channel).GetBundle(bundle_pb2.GetBundleRequest(), timeout=TIMEOUT)
        if console.wants_json:
            console.json(bundle)
        elif wanted == PEM:
            for authority in bundle.x509_authorities:
                console.out(pem(authority.asn1))
        else:
            console.out(document(bundle))

    return command.run(arguments, talk)


def pem(der: bytes) -> str:
    """Wrap a certificate in PEM."""
    body = "\n".join(textwrap.wrap(base64.b64encode(der).decode("ascii"), 64))
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----"


def document(bundle: types_pb2.Bundle) -> str:
    """Render the bundle as an indented SPIFFE bundle document.

    Raises:
        InvalidBundleError: the server sent a bundle that is none.
    """
    from authsec_sdk.spiffe import format_bundle_document
    from authsec_sdk.spire.wire import bundle_from_wire

    return json.dumps(json.loads(format_bundle_document(bundle_from_wire(bundle))), indent=4)
