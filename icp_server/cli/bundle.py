"""`icp-server bundle`: the trust domain's own bundle and those of others, as PEM or as SPIFFE bundle documents."""

from __future__ import annotations

import base64
import json
import textwrap
from collections.abc import Sequence

from authsec_sdk.proto.spire import bundle_grpc, bundle_pb2, types_pb2
from authsec_sdk.rpc import Channel
from icp_server.cli.api import TIMEOUT, APICommand, CommandError
from icp_server.cli.bundle_data import PEM, SPIFFE, read_file, read_format, to_message
from icp_server.cli.output import Console, plural, quote

_MODES = {
    "": bundle_pb2.BatchDeleteFederatedBundleRequest.RESTRICT,
    "restrict": bundle_pb2.BatchDeleteFederatedBundleRequest.RESTRICT,
    "delete": bundle_pb2.BatchDeleteFederatedBundleRequest.DELETE,
    "dissociate": bundle_pb2.BatchDeleteFederatedBundleRequest.DISSOCIATE,
}
_LINE = "*" * 40


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
        bundle = await bundle_grpc.BundleStub(channel).GetBundle(bundle_pb2.GetBundleRequest(), timeout=TIMEOUT)
        if console.wants_json:
            console.json(bundle)
        else:
            _print(console, bundle, format_.value)

    return command.run(arguments, talk)


def count(arguments: Sequence[str]) -> int:
    """Print how many bundles there are."""
    command = APICommand("bundle count", summary="Counts bundles, the server's own one included.", examples=("",))

    async def talk(channel: Channel, console: Console) -> None:
        answer = await bundle_grpc.BundleStub(channel).CountBundles(bundle_pb2.CountBundlesRequest(), timeout=TIMEOUT)
        if console.wants_json:
            console.json(answer)
        else:
            console.out(f"{answer.count} {plural(answer.count, 'bundle', 'bundles')}")

    return command.run(arguments, talk)


def list_(arguments: Sequence[str]) -> int:
    """Print the bundles of other trust domains."""
    command = APICommand(
        "bundle list",
        summary="Prints the bundles of other trust domains, or of the one that is named.",
        examples=("", "-id partner.example -format spiffe"),
    )
    name = command.flags.string("id", "SPIFFE ID of the trust domain")
    format_ = command.flags.string(
        "format",
        (
            "The format to list federated bundles (only pretty output format supports this flag). "
            f'Either "{PEM}" or "{SPIFFE}".'
        ),
        PEM,
    )

    async def talk(channel: Channel, console: Console) -> None:
        stub = bundle_grpc.BundleStub(channel)
        if name.value:
            request = bundle_pb2.GetFederatedBundleRequest(trust_domain=name.value)
            bundle = await stub.GetFederatedBundle(request, timeout=TIMEOUT)
            if console.wants_json:
                console.json(bundle)
            else:
                _print(console, bundle, format_.value)
            return
        answer = await stub.ListFederatedBundles(bundle_pb2.ListFederatedBundlesRequest(), timeout=TIMEOUT)
        if console.wants_json:
            console.json(answer)
            return
        for number, bundle in enumerate(answer.bundles):
            read_format(format_.value)
            if number:
                console.out()
            console.record([_LINE, f"* {bundle.trust_domain}", _LINE])
            _print(console, bundle, format_.value)

    return command.run(arguments, talk)


def set_(arguments: Sequence[str]) -> int:
    """Keep the bundle of another trust domain."""
    command = APICommand(
        "bundle set",
        summary="Keeps the bundle of another trust domain, in place of the one there may be.",
        examples=(
            "-id partner.example -path partner.pem",
            "-id partner.example -format spiffe < partner.json",
        ),
    )
    name = command.flags.string("id", "SPIFFE ID of the trust domain")
    path = command.flags.string("path", "Path to the bundle data; standard input without it")
    format_ = command.flags.string("format", f'The format of the bundle data. Either "{PEM}" or "{SPIFFE}".', PEM)

    async def talk(channel: Channel, console: Console) -> None:
        if not name.value:
            raise CommandError("id flag is required")
        wanted = read_format(format_.value)
        bundle = to_message(read_file(path.value), wanted, name.value)
        answer = await bundle_grpc.BundleStub(channel).BatchSetFederatedBundle(
            bundle_pb2.BatchSetFederatedBundleRequest(bundle=[bundle]), timeout=TIMEOUT
        )
        if console.wants_json:
            console.json(answer)
            return
        status = answer.results[0].status
        if status.code:
            raise CommandError(f"failed to set federated bundle: {status.message}")
        console.out("bundle set.")

    return command.run(arguments, talk)


def delete(arguments: Sequence[str]) -> int:
    """Delete the bundle of another trust domain."""
    command = APICommand(
        "bundle delete",
        summary="Deletes the bundle of another trust domain; the mode says what becomes of entries that use it.",
        examples=("-id partner.example", "-id partner.example -mode dissociate"),
    )
    name = command.flags.string("id", "SPIFFE ID of the trust domain")
    mode = command.flags.string("mode", "Deletion mode: one of restrict, delete, or dissociate", "restrict")

    async def talk(channel: Channel, console: Console) -> None:
        if not name.value:
            raise CommandError("id is required")
        if mode.value not in _MODES:
            raise CommandError(f"unsupported mode {quote(mode.value)}")
        request = bundle_pb2.BatchDeleteFederatedBundleRequest(trust_domains=[name.value], mode=_MODES[mode.value])
        answer = await bundle_grpc.BundleStub(channel).BatchDeleteFederatedBundle(request, timeout=TIMEOUT)
        if console.wants_json:
            console.json(answer)
            return
        (result,) = answer.results
        if result.status.code:
            raise CommandError(
                f"failed to delete federated bundle {quote(result.trust_domain)}: {result.status.message}"
            )
        console.out("bundle deleted.")

    return command.run(arguments, talk)


def _print(console: Console, bundle: types_pb2.Bundle, format_: str) -> None:
    if read_format(format_) == PEM:
        for authority in bundle.x509_authorities:
            console.out(pem(authority.asn1))
    else:
        console.out(document(bundle))


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
