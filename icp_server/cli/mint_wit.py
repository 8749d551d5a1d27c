"""`icp-server wit mint`: a WIT-SVID for any workload of the trust domain, with the key it is bound to."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authsec_sdk.jose.keys import SigningKey, algorithms_of
from authsec_sdk.jose.private_jwk import format_private_jwk
from authsec_sdk.proto.spire import svid_grpc, svid_pb2
from authsec_sdk.rpc import Channel
from icp_server.cli.api import TIMEOUT, APICommand, CommandError
from icp_server.cli.mint import PRIVATE, minted, required_id, seconds, warn_if_capped, write_file
from icp_server.cli.output import Console

_KEYS: Final[Mapping[str, Callable[[], SigningKey]]] = MappingProxyType(
    {
        "ec-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "ec-p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "rsa-2048": lambda: rsa.generate_private_key(65537, 2048),
        "rsa-4096": lambda: rsa.generate_private_key(65537, 4096),
    }
)


def mint(arguments: Sequence[str]) -> int:
    """Make a key, and print it after a WIT-SVID bound to it, or write both to files."""
    command = APICommand(
        "wit mint",
        summary="Mints a WIT-SVID.",
        examples=("-spiffeID spiffe://example.org/web", "-spiffeID … -keyType ec-p384 -signingAlgorithm ES384"),
    )
    flags = command.flags
    spiffe_id = flags.string("spiffeID", "SPIFFE ID of the WIT-SVID")
    ttl = flags.duration("ttl", "TTL of the WIT-SVID")
    key_type = flags.string("keyType", "Key type of the WIT-SVID", "ec-p256")
    algorithm = flags.string("signingAlgorithm", "Signing algorithm for the workload signing key", "ES256")
    write = flags.string("write", "Directory to write output to instead of stdout")

    async def talk(channel: Channel, console: Console) -> None:
        wanted = required_id(spiffe_id)
        key = _key(key_type.value, algorithm.value)
        request = svid_pb2.MintWITSVIDRequest(
            id=wanted,
            public_key=key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            ttl=seconds(ttl.value),
            signing_algorithm=algorithm.value,
        )
        began = time.time()
        answer = await minted(svid_grpc.SVIDStub(channel).MintWITSVID(request, timeout=TIMEOUT))
        jwk = json.dumps(format_private_jwk(key), separators=(",", ":"))
        if write.value:
            _write(console, Path(write.value), answer.svid.token, jwk)
        elif console.wants_json:
            console.out(_json(answer, jwk))
        else:
            console.out(f"{answer.svid.token}\n{jwk}")
        warn_if_capped(console, "WIT-SVID", began, ttl.value, answer.svid.expires_at)

    return command.run(arguments, talk)


def _key(key_type: str, algorithm: str) -> SigningKey:
    make = _KEYS.get(key_type)
    if make is not None and key_type[:2].upper() == {"E": "EC", "R": "RS", "P": "RS"}.get(algorithm[:1], ""):
        key = make()
        if algorithm in algorithms_of(key.public_key()):
            return key
    raise CommandError(f"unsupported key type '{key_type}' for '{algorithm}' signing algorithm")


def _json(answer: svid_pb2.MintWITSVIDResponse, jwk: str) -> str:
    svid = answer.svid
    spiffe_id = {"trust_domain": svid.id.trust_domain, "path": svid.id.path}
    told = {"token": svid.token, "id": spiffe_id, "expires_at": svid.expires_at, "issued_at": svid.issued_at}
    return json.dumps({"private_key": jwk, "svid": told}, separators=(",", ":"))


def _write(console: Console, folder: Path, token: str, jwk: str) -> None:
    for what, told, name, text in (("token", "WIT-SVID", "token", token), ("key", "Private key", "key", jwk)):
        write_file(what, folder / name, text.encode("ascii"), PRIVATE)
        console.out(f"{told} written to {os.fspath(folder / name)}")
