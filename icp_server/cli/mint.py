"""`icp-server x509 mint` and `jwt mint`: an identity for any workload of the trust domain, without an entry."""

from __future__ import annotations

import base64
import json
import math
import os
import time
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from authsec_sdk.atomic_file import write_atomic
from authsec_sdk.proto.spire import bundle_grpc, bundle_pb2, svid_grpc, svid_pb2, types_pb2
from authsec_sdk.rpc import Channel, GRPCError
from icp_common.flags import Flag
from icp_server.cli.api import TIMEOUT, APICommand, CommandError, rpc_error
from icp_server.cli.bundle import pem
from icp_server.cli.ids import id_message
from icp_server.cli.numbers import int32
from icp_server.cli.output import Console

T = TypeVar("T")
PRIVATE, PUBLIC = 0o600, 0o644


def mint_jwt(arguments: Sequence[str]) -> int:
    """Print a JWT-SVID, or write it to a file."""
    command = APICommand(
        "jwt mint",
        summary="Mints a JWT-SVID.",
        examples=("-spiffeID spiffe://example.org/web -audience payments", "-spiffeID … -audience a -write token"),
    )
    flags = command.flags
    spiffe_id = flags.string("spiffeID", "SPIFFE ID of the JWT-SVID")
    ttl = flags.duration("ttl", "TTL of the JWT-SVID")
    audience = flags.strings(
        "audience", "Audience claim that will be included in the SVID. Can be used more than once."
    )
    write = flags.string("write", "File to write token to instead of stdout")

    async def talk(channel: Channel, console: Console) -> None:
        wanted = required_id(spiffe_id)
        if not audience.value:
            raise CommandError("at least one audience must be specified")
        began = time.time()
        request = svid_pb2.MintJWTSVIDRequest(id=wanted, ttl=seconds(ttl.value), audience=audience.value)
        answer = await minted(svid_grpc.SVIDStub(channel).MintJWTSVID(request, timeout=TIMEOUT))
        warn_if_capped(console, "JWT-SVID", began, ttl.value, answer.svid.expires_at)
        if write.value:
            write_file("token", Path(write.value), answer.svid.token.encode("ascii"), PRIVATE)
            console.out(f"JWT-SVID written to {write.value}")
        elif console.wants_json:
            console.json(answer)
        else:
            console.out(answer.svid.token)

    return command.run(arguments, talk)


def mint_x509(arguments: Sequence[str]) -> int:
    """Make a key, and print it with an X509-SVID for it and the roots, or write them to files."""
    command = APICommand(
        "x509 mint",
        summary="Mints an X509-SVID.",
        examples=("-spiffeID spiffe://example.org/web", "-spiffeID … -dns web.example.org -ttl 1h -write /etc/web"),
    )
    flags = command.flags
    spiffe_id = flags.string("spiffeID", "SPIFFE ID of the X509-SVID")
    ttl = flags.duration("ttl", "TTL of the X509-SVID")
    dns = flags.strings("dns", "DNS name that will be included in SVID. Can be used more than once.")
    write = flags.string("write", "Directory to write output to instead of stdout")

    async def talk(channel: Channel, console: Console) -> None:
        wanted = required_id(spiffe_id)
        key = ec.generate_private_key(ec.SECP256R1())
        csr = _csr(key, f"spiffe://{wanted.trust_domain}{wanted.path}", dns.value)
        began = time.time()
        request = svid_pb2.MintX509SVIDRequest(csr=csr, ttl=seconds(ttl.value))
        answer = await minted(svid_grpc.SVIDStub(channel).MintX509SVID(request, timeout=TIMEOUT))
        bundle = await _bundle(channel)
        if not answer.svid.cert_chain:
            raise CommandError("server response missing SVID chain")
        if not bundle.x509_authorities:
            raise CommandError("server response missing X509 Root CAs")
        chain, roots = list(answer.svid.cert_chain), [root.asn1 for root in bundle.x509_authorities]
        if write.value:
            _write_x509(console, Path(write.value), chain, key, roots)
        elif console.wants_json:
            console.out(_x509_json(chain, key, roots))
        else:
            console.out(f"X509-SVID:\n{_pems(chain)}\n\nPrivate key:\n{_key_pem(key)}\nRoot CAs:\n{_pems(roots)}\n")
        warn_if_capped(console, "X509-SVID", began, ttl.value, answer.svid.expires_at)

    return command.run(arguments, talk)


def required_id(flag: Flag[str]) -> types_pb2.SPIFFEID:
    """The ID a command must be given.

    Raises:
        CommandError: it is missing.
        InvalidSpiffeIDError: it is none.
    """
    if not flag.value:
        raise CommandError("spiffeID must be specified")
    return id_message(flag.value)


async def minted(call: Awaitable[T]) -> T:
    """Await what mints.

    Raises:
        CommandError: the server refused.
    """
    try:
        return await call
    except GRPCError as error:
        raise CommandError(f"unable to mint SVID: {rpc_error(error)}") from error


def seconds(ttl: timedelta) -> int:
    """A lifetime as the API has it: whole seconds, rounded up.

    Raises:
        ValueError: it is longer than the API can say.
    """
    return int32(math.ceil(ttl.total_seconds()), "TTL")


def warn_if_capped(console: Console, what: str, began: float, ttl: timedelta, expires_at: int) -> None:
    """Say on standard error that the result ends earlier than asked for. Part of a second is no matter."""
    if ttl > timedelta() and expires_at + 1 < began + ttl.total_seconds():
        end = datetime.fromtimestamp(expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        console.err(f'{what} lifetime was capped shorter than specified ttl; expires "{end}"')


def write_file(what: str, path: Path, data: bytes, mode: int) -> None:
    """Write a file as a whole, with these rights whatever was there before.

    Raises:
        CommandError: it cannot be written.
    """
    try:
        write_atomic(path, data, mode)
    except OSError as error:
        problem = (error.strerror or "").lower()
        raise CommandError(f"unable to write {what}: open {os.fspath(path)}: {problem}") from None


async def _bundle(channel: Channel) -> types_pb2.Bundle:
    try:
        return await bundle_grpc.BundleStub(channel).GetBundle(bundle_pb2.GetBundleRequest(), timeout=TIMEOUT)
    except GRPCError as error:
        raise CommandError(f"unable to get bundle: {rpc_error(error)}") from error


def _csr(key: ec.EllipticCurvePrivateKey, uri: str, dns_names: Sequence[str]) -> bytes:
    names = [x509.UniformResourceIdentifier(uri), *map(x509.DNSName, dns_names)]
    subject = [x509.NameAttribute(NameOID.COUNTRY_NAME, "US"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SPIRE")]
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name(subject))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    return request.public_bytes(Encoding.DER)


def _pems(ders: Sequence[bytes]) -> str:
    return "\n".join(pem(der) for der in ders)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


def _x509_json(chain: Sequence[bytes], key: ec.EllipticCurvePrivateKey, roots: Sequence[bytes]) -> str:
    def text(data: bytes) -> str:
        return base64.b64encode(data).decode("ascii")

    key_der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    document = {"x509_svid": [*map(text, chain)], "private_key": text(key_der), "root_cas": [*map(text, roots)]}
    return json.dumps(document, separators=(",", ":"))


def _write_x509(
    console: Console, folder: Path, chain: Sequence[bytes], key: ec.EllipticCurvePrivateKey, roots: Sequence[bytes]
) -> None:
    for what, told, name, text, mode in (
        ("SVID", "X509-SVID", "svid.pem", f"{_pems(chain)}\n", PUBLIC),
        ("key", "Private key", "key.pem", _key_pem(key), PRIVATE),
        ("bundle", "Root CAs", "bundle.pem", f"{_pems(roots)}\n", PUBLIC),
    ):
        write_file(what, folder / name, text.encode("ascii"), mode)
        console.out(f"{told} written to {os.fspath(folder / name)}")
