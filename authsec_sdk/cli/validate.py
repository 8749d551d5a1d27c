"""``authsec validate``: is this token or certificate chain what it says, and for us? By the agent, or by a bundle.

FILE may be ``-`` for standard input; a token on the command line could be read by every user of the machine.
"""

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509

from authsec_sdk.cli import files
from authsec_sdk.cli.fetch import asked
from authsec_sdk.cli.output import Facts, add_output, jwt_facts, show
from authsec_sdk.cli.parsing import add_command, add_socket
from authsec_sdk.errors import CallerError, PeerCredentialError
from authsec_sdk.spiffe import (
    JWTSVID,
    BundleSet,
    JWTBundle,
    TrustBundle,
    TrustDomain,
    UnprovenWIT,
    WITBundle,
    parse_bundle_document,
    parse_bundle_map,
    parse_jwt_key_set,
    parse_wit_key_set,
    verify_chain,
    x509_svid_id,
)

_Bundle = TypeVar("_Bundle", JWTBundle, WITBundle)

_EXAMPLES = (
    ("authsec validate jwt token --audience payments", "let the agent judge a JWT-SVID"),
    ("authsec validate jwt - --audience payments --bundle bundle.json --trust-domain example.org", "without an agent"),
    ("authsec validate x509 svid.pem --bundle svid_bundle.pem", "a chain against a bundle"),
    ("authsec validate wit token --bundle bundle.json --trust-domain example.org", "a WIT-SVID; not who sent it"),
)


def register(commands: Any) -> None:
    """Add this command to the parser."""
    parser = add_command(
        commands,
        "validate",
        summary="is this token or chain to be believed",
        description=__doc__,
        examples=_EXAMPLES,
    )
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for kind, words, needed in (
        ("jwt", "a JWT-SVID", False),
        ("wit", "a WIT-SVID", True),
        ("x509", "a certificate chain", True),
    ):
        one = kinds.add_parser(kind, help=words)
        one.add_argument("file", type=Path, metavar="FILE", help=f"{words}; - is standard input")
        one.add_argument(
            "--bundle",
            type=Path,
            required=needed,
            metavar="FILE",
            help="a bundle document, bundle map" + (" or PEM" if kind == "x509" else " or key set"),
        )
        one.add_argument("--trust-domain", metavar="NAME", help="whose bundle it is, where it does not say")
        add_output(one)
        if kind == "jwt":
            one.add_argument("--audience", required=True, metavar="NAME", help="the name we go by")
            add_socket(one)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Judge; 0 when it is to be believed, 1 when it is not."""
    judge = {"jwt": _jwt, "wit": _wit, "x509": _x509}[options.kind]
    facts: Facts = {}
    try:
        facts |= judge(options, datetime.now(UTC))
        facts["verdict"] = "valid"
    except PeerCredentialError as error:
        facts |= {"verdict": f"REFUSED: {error}"}
        show(facts, output=options.output)
        return 1
    show(facts, output=options.output)
    return 0


def _jwt(options: argparse.Namespace, now: datetime) -> Facts:
    token = files.read_token(options.file)
    if options.bundle is None:
        svid = asked(options, lambda client: client.validate_jwt_svid(token, options.audience, timeout=options.timeout))
        return {"by": "the agent", **jwt_facts(svid)}
    domain = _domain(options) or JWTSVID.unsafe_parse(token).id.trust_domain
    bundles = _bundles(options.bundle, domain, b'"jwt-svid"', TrustBundle.jwt_bundle, parse_jwt_key_set)
    svid = JWTSVID.parse_and_validate(token, bundles, [options.audience], now=now)
    return {"by": "the bundle", **jwt_facts(svid)}


def _wit(options: argparse.Namespace, now: datetime) -> Facts:
    domain = _domain(options)
    if domain is None:
        raise CallerError("whose bundle is it? Give --trust-domain")
    bundles = _bundles(options.bundle, domain, b'"wit-svid"', TrustBundle.wit_bundle, parse_wit_key_set)
    wit = UnprovenWIT.parse_and_validate(files.read_token(options.file), bundles, now=now)
    return {
        "by": "the bundle",
        "spiffe_id": str(wit.id),
        "key_id": wit.key_id,
        "not_after": wit.expires_at.isoformat(),
        "proof": "none: whoever sent it may have found it",
    }


def _x509(options: argparse.Namespace, now: datetime) -> Facts:
    try:
        chain = x509.load_pem_x509_certificates(files.read(options.file))
    except ValueError as error:
        raise CallerError(f"{options.file} holds no PEM certificates that can be read: {error}") from error
    domain = _domain(options) or x509_svid_id(chain[0]).trust_domain
    spiffe_id = verify_chain(chain, files.read_x509_bundles(options.bundle, domain), at=now)
    return {"by": "the bundle", "spiffe_id": str(spiffe_id), "not_after": chain[0].not_valid_after_utc.isoformat()}


def _domain(options: argparse.Namespace) -> TrustDomain | None:
    return TrustDomain.parse(options.trust_domain) if options.trust_domain else None


def _bundles(
    path: Path,
    domain: TrustDomain,
    use: bytes,
    side: Callable[[TrustBundle], _Bundle],
    key_set: Callable[[TrustDomain, bytes], _Bundle],
) -> BundleSet[_Bundle]:
    """Read a bundle map, a bundle document, or a key set; of the first two the side that is for these tokens."""
    data = files.read(path)
    if b'"trust_domains"' in data:
        return BundleSet(side(bundle) for bundle in parse_bundle_map(data).values())
    if use in data or b'"x509-svid"' in data:
        return BundleSet.of(side(parse_bundle_document(domain, data)))
    return BundleSet.of(key_set(domain, data))
