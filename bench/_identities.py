"""The identities of two workloads in files, for processes that must have the same."""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authsec_sdk.spiffe import X509SVID, BundleSet, TrustDomain, X509Bundle, X509Context, X509ContextHolder
from authsec_sdk.testing import TestCA

SERVER, CLIENT = "spiffe://bench.test/server", "spiffe://bench.test/client"
NAMES = ("server", "client")


def write(folder: Path) -> None:
    """Make a CA and both identities."""
    ca = TestCA("bench.test")
    (folder / "authorities.pem").write_bytes(ca.bundle().to_pem())
    for name in NAMES:
        svid = ca.svid(f"spiffe://bench.test/{name}")
        key = svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for suffix, data in (
            ("key", key),
            ("chain", b"".join(c.public_bytes(Encoding.PEM) for c in svid.certificates)),
        ):
            file = folder / f"{name}-{suffix}.pem"
            file.touch(mode=0o600)
            file.write_bytes(data)


def source(folder: Path, name: str) -> X509ContextHolder:
    """Return a source of one of them."""
    chain, key = (folder / f"{name}-{suffix}.pem" for suffix in ("chain", "key"))
    bundle = X509Bundle.parse_pem(TrustDomain("bench.test"), (folder / "authorities.pem").read_bytes())
    svid = X509SVID.parse_pem(chain.read_bytes(), key.read_bytes())
    return X509ContextHolder(X509Context((svid,), BundleSet.of(bundle)))


def stdlib(folder: Path, name: str, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """Return the standard library's context: TLS 1.3, mutual, no tickets, and whoever the CA signed is accepted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if name == "server" else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET
    if name == "server":
        context.num_tickets = 0
    context.load_cert_chain(folder / f"{name}-chain.pem", folder / f"{name}-key.pem")
    context.load_verify_locations(folder / "authorities.pem")
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context
