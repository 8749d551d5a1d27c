"""Nodes with certificates of a PKI of their own, and attestors as a configuration makes them."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from authsec_sdk import hcl
from authsec_sdk.hcl import Fields
from icp_server.nodeattestors.registry import BUILT_IN
from icp_server.ports import AttestationRequest, NodeAttestation


@dataclass(frozen=True)
class Held:
    """A certificate with its key, and what it was signed by."""

    certificate: x509.Certificate
    key: Any

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


class PKI:
    """An authority and what it signs; every knob that a hostile or careless one might turn."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.root = self.sign("Root", ca=True)

    def sign(
        self,
        common_name: str,
        by: Held | None = None,
        *,
        key: Any = None,
        ca: bool = False,
        uris: tuple[str, ...] = (),
        ips: tuple[str, ...] = (),
        digital_signature: bool = True,
        cert_sign: bool | None = None,
        days: float = 1,
        serial: int | None = None,
        path_length: int | None = None,
    ) -> Held:
        key = key or ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(by.certificate.subject if by else name)
            .public_key(key.public_key())
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(self.now - timedelta(days=2))
            .not_valid_after(self.now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca, path_length), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature and not ca,
                    False,
                    not digital_signature,
                    False,
                    False,
                    ca if cert_sign is None else cert_sign,
                    ca,
                    False,
                    False,
                ),
                critical=True,
            )
        )
        names = [
            *map(x509.UniformResourceIdentifier, uris),
            *(x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips),
        ]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return Held(builder.sign(by.key if by else key, hashes.SHA256()), key)

    def chain(self, length: int, root: Held | None = None) -> list[Held]:
        """Intermediates in a row, the lowest first."""
        held, signer = [], root or self.root
        for number in range(length):
            signer = self.sign(f"Intermediate {number}", signer, ca=True)
            held.append(signer)
        return held[::-1]


@pytest.fixture
def pki(clock: Any) -> PKI:
    return PKI(clock())


@pytest.fixture
def pem(tmp_path: Path) -> Callable[..., Path]:
    """Write certificates into a file."""

    def write(*held: Held, name: str = "ca.pem") -> Path:
        path = tmp_path / name
        path.write_bytes(b"".join(each.certificate.public_bytes(Encoding.PEM) for each in held))
        return path

    return write


@pytest.fixture
def make_attestor(store: Any, clock: Any) -> Callable[[str, str], Any]:
    """`make_attestor("x509pop", 'mode = "spiffe"')`: as the server makes it from plugin_data."""

    def make(name: str, data: str) -> Any:
        return BUILT_IN[name](Fields(hcl.parse(data, "server.conf"), "plugin_data"))(store, clock)

    return make


Respond = Callable[[bytes], bytes]


@pytest.fixture
def attest() -> Callable[..., Awaitable[NodeAttestation]]:
    """Show an attestor a payload and answer what it asks; by default it must not ask."""

    async def run(attestor: Any, payload: bytes, respond: Respond | None = None, *, peer: str = "") -> NodeAttestation:
        async def challenge(text: bytes) -> bytes:
            assert respond is not None, "nothing was to be asked"
            return respond(text)

        result: NodeAttestation = await attestor.attest(AttestationRequest(payload, b"key", challenge, peer))
        return result

    return run
