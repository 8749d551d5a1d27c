"""``authsec inspect``: what a certificate, bundle, key set or token says, and what is wrong with it, rule by rule.

Nothing has to run. Keys and whole tokens are never shown. FILE may be ``-`` for standard input.
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from authsec_sdk.cli import files
from authsec_sdk.cli.json_words import document_facts
from authsec_sdk.cli.output import Facts, add_output, show
from authsec_sdk.cli.parsing import add_command
from authsec_sdk.cli.token_words import kept_or_broken, looks_like_a_token, token_facts
from authsec_sdk.cli.x509_words import certificate_facts, is_authority, leaf_findings, signer_findings
from authsec_sdk.errors import CallerError, OperatorError, PeerCredentialError
from authsec_sdk.spiffe import (
    JWTSVID,
    TrustDomain,
    check_authority,
    check_signing_certificate,
    verify_chain,
    x509_svid_id,
)
from authsec_sdk.spiffe.x509svid import X509SVID

_EXAMPLES = (
    ("authsec inspect svid.pem", "an X.509-SVID and its intermediates"),
    ("authsec inspect svid.pem --bundle svid_bundle.pem", "and whether it is to be trusted"),
    ("authsec inspect trust_bundles.json", "a bundle map, a bundle document or a key set"),
    ("authsec fetch jwt --audience x --print | authsec inspect -", "a JWT-SVID or WIT-SVID"),
)


def register(commands: Any) -> None:
    """Add this command to the parser."""
    parser = add_command(
        commands,
        "inspect",
        summary="what a certificate, bundle or token says, and what is wrong with it",
        description=__doc__,
        examples=_EXAMPLES,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="PEM or DER, JSON, or a token")
    parser.add_argument("--bundle", type=Path, help="authorities: PEM, a SPIFFE bundle document, or a bundle map")
    parser.add_argument("--trust-domain", help="whose bundle it is (default: the leaf's)")
    add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Show what there is and the verdict; 0 when no rule is broken (and it leads to the bundle, where one is given)."""
    now = datetime.now(UTC)
    domain = TrustDomain.parse(options.trust_domain) if options.trust_domain else None
    data = files.read(options.file)
    try:
        text = data.decode("ascii").strip()
    except UnicodeDecodeError:
        text = ""
    if data.lstrip().startswith(b"{"):
        facts = document_facts(data, domain)
    elif looks_like_a_token(text):
        facts = _token(text, now)
    else:
        facts = _certificates(options, data, domain, now)
    show(facts, output=options.output)
    return 1 if str(facts["verdict"]).startswith("REFUSED") else 0


def _token(token: str, now: datetime) -> Facts:
    facts: Facts = {"kind": "token"}
    try:
        kind, facts = token_facts(token, now=now)
        if kind == "jwt":
            svid = JWTSVID.unsafe_parse(token)
            facts["spiffe_id"] = str(svid.id)
            if svid.is_expired(now):
                facts["verdict"] = "REFUSED: it has expired"
                return facts
        broken = next((rule for rule in kept_or_broken(facts) if rule["result"] != "ok"), None)
        well = "well formed; authsec validate tells whether it is true"
        facts["verdict"] = well if broken is None else f"REFUSED: broken: {broken['rule']} ({broken['clause']})"
    except PeerCredentialError as error:
        facts["verdict"] = f"REFUSED: {error}"
    return facts


def _certificates(options: argparse.Namespace, data: bytes, domain: TrustDomain | None, now: datetime) -> Facts:
    try:
        chain = _load(data)
        facts: Facts = {"kind": "X.509", "certificates": [certificate_facts(one, now=now) for one in chain]}
        authorities = all(is_authority(certificate) for certificate in chain) and options.bundle is None
        if authorities:
            facts["kind"] = "authorities"
        found = [
            {"certificate": number, **finding}
            for number, certificate in enumerate(chain, start=1)
            for finding in (
                leaf_findings(certificate)
                if number == 1 and not authorities
                else signer_findings(certificate, authority=authorities)
            )
        ]
    except ValueError as error:  # names, dates and extensions are parsed when they are looked at
        raise CallerError(f"{options.file} holds no PEM certificates that can be read: {error}") from error
    if b"PRIVATE KEY-----" in data:
        facts["private_key"] = _key_words(data)
    facts["rules"] = found
    try:
        if authorities:
            for certificate in chain:
                check_authority(certificate)
            facts["verdict"] = f"{len(chain)} authorities that keep every rule; whose they are, PEM does not say"
            return facts
        spiffe_id = x509_svid_id(chain[0])
        facts["spiffe_id"] = str(spiffe_id)
        for certificate in chain[1:]:
            check_signing_certificate(certificate)
        if options.bundle is not None:
            domain = domain or spiffe_id.trust_domain
            verify_chain(chain, files.read_x509_bundles(options.bundle, domain), at=now)
            facts["verdict"] = f"valid, and leads to the bundle of {spiffe_id.trust_domain}"
        else:
            facts["verdict"] = "a valid SVID by itself; give --bundle to see whether it is to be trusted"
    except (PeerCredentialError, OperatorError) as error:
        facts["verdict"] = f"REFUSED: {error}"
    return facts


def _load(data: bytes) -> list[x509.Certificate]:
    if b"-----BEGIN" in data or not data.startswith(b"\x30"):
        return x509.load_pem_x509_certificates(data)
    return [x509.load_der_x509_certificate(data)]


def _key_words(data: bytes) -> str:
    try:
        X509SVID.parse_pem(data, data)
    except PeerCredentialError as error:
        return f"there, and not shown: {error}"
    return "there, and not shown; it is the leaf's"
