"""``authsec inspect``: is this certificate chain an X509-SVID, and does it lead to a bundle? By every rule."""

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from authsec_sdk.cli.output import Facts, add_output, show
from authsec_sdk.errors import CallerError, PeerCredentialError
from authsec_sdk.spiffe import BundleSet, TrustDomain, X509Bundle, parse_bundle_document, verify_chain, x509_svid_id

_MAX_BYTES = 4 * 1024 * 1024


def register(commands: Any) -> None:
    """Add this command to the parser."""
    parser = commands.add_parser("inspect", help="check a certificate chain by every rule", description=__doc__)
    parser.add_argument("chain", type=Path, help="PEM file: the leaf first, then its intermediates")
    parser.add_argument("--bundle", type=Path, help="authorities of the trust domain: PEM, or a SPIFFE bundle document")
    parser.add_argument("--trust-domain", help="whose bundle it is (default: the leaf's)")
    add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Show the chain and the verdict; 0 when it is a valid SVID (and leads to the bundle, where one is given)."""
    try:
        chain = x509.load_pem_x509_certificates(_read(options.chain))
        facts: Facts = {"certificates": [_facts(certificate) for certificate in chain]}
    except ValueError as error:  # names and dates are parsed when they are looked at
        raise CallerError(f"{options.chain} holds no PEM certificates that can be read: {error}") from error
    try:
        spiffe_id = x509_svid_id(chain[0])
        facts["spiffe_id"] = str(spiffe_id)
        if options.bundle is not None:
            domain = TrustDomain.parse(options.trust_domain) if options.trust_domain else spiffe_id.trust_domain
            bundle = _bundle(domain, _read(options.bundle))
            verify_chain(chain, BundleSet.of(bundle), at=datetime.now(UTC))
            facts["verdict"] = f"valid, and leads to the bundle of {domain}"
        else:
            facts["verdict"] = "a valid SVID by itself; give --bundle to see whether it is to be trusted"
    except PeerCredentialError as error:
        facts["verdict"] = f"REFUSED: {error}"
        show(facts, output=options.output)
        return 1
    show(facts, output=options.output)
    return 0


def _read(path: Path) -> bytes:
    if path.stat().st_size > _MAX_BYTES:
        raise CallerError(f"{path} is larger than {_MAX_BYTES} bytes; that is no certificate chain")
    return path.read_bytes()


def _bundle(domain: TrustDomain, data: bytes) -> X509Bundle:
    if data.lstrip().startswith(b"{"):
        return parse_bundle_document(domain, data).x509_bundle()
    return X509Bundle.parse_pem(domain, data)


def _facts(certificate: x509.Certificate) -> Facts:
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial_number": str(certificate.serial_number),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
    }
