"""Verifying a JWT-SVID, every rule of it, ÷ PyJWT doing what it can: CPU time of one verification.

PyJWT checks signature, expiry, audience and that `sub` and `exp` are there, with one algorithm allowed and the public
key at hand. What `cryptography` takes for the signature alone is printed beside: nobody can be faster than that.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from authsec_sdk.jose import base64url
from authsec_sdk.jose.jwk import JWTPublicKey
from authsec_sdk.jose.jws import format_jws
from authsec_sdk.jose.keys import MemorySigner, SignatureAlgorithm
from authsec_sdk.spiffe import BundleSet, JWTBundle, TrustDomain
from authsec_sdk.spiffe.jwtsvid import JWTSVID
from bench import _results
from bench._paired import Comparison, compare

CLAIM = 1.3
AUDIENCE = "spiffe://bench.test/server"


def _timed(call: Callable[[], object], calls: int) -> Callable[[], float]:
    def round_() -> float:
        begun = time.process_time_ns()
        for _ in range(calls):
            call()
        return (time.process_time_ns() - begun) / calls / 1e3

    return round_


def _compared(algorithm: SignatureAlgorithm, calls: int, rounds: int) -> bool:
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = (
        rsa.generate_private_key(65537, 2048) if algorithm == "RS256" else ec.generate_private_key(ec.SECP256R1())
    )
    signer = MemorySigner(key, "key-1", algorithm)
    now = datetime.now(UTC)
    claims = {
        "sub": "spiffe://bench.test/ns/default/sa/client",
        "aud": [AUDIENCE],
        "iat": int(now.timestamp()),
        "exp": int(now.timestamp()) + 3600,
    }
    token = format_jws(claims, "JWT", signer)
    domain = TrustDomain.parse("bench.test")
    bundles = BundleSet.of(JWTBundle(domain, {"key-1": signer.public_key}))
    public = signer.public_key

    def ours() -> object:
        return JWTSVID.parse_and_validate(token, bundles, [AUDIENCE], now=datetime.now(UTC))

    def theirs() -> object:
        return jwt.decode(
            token, public, algorithms=[algorithm], audience=AUDIENCE, options={"require": ["exp", "sub", "aud"]}
        )

    faster = compare(f"{algorithm}, ours", _timed(ours, calls), _timed(theirs, calls), rounds=rounds)
    rate = Comparison(f"JWT-SVIDs, {algorithm}, verifications per CPU-second ÷ PyJWT", *_rates(faster))
    met = rate.report(at_least=CLAIM, unit="/s")
    floor = compare(
        f"{algorithm}, signature alone", _timed(_bare(public, token), calls), _timed(theirs, calls), rounds=rounds
    )
    Comparison(f"JWT-SVIDs, {algorithm}, the signature alone, per CPU-second ÷ PyJWT", *_rates(floor)).report(unit="/s")
    return met


def _bare(public: JWTPublicKey, token: str) -> Callable[[], object]:
    """Return OpenSSL's part, everything else done beforehand."""
    signed, _, last = token.rpartition(".")
    data, signature, digest = signed.encode(), base64url.decode(last, "the signature"), hashes.SHA256()
    if isinstance(public, rsa.RSAPublicKey):
        scheme = padding.PKCS1v15()
        return lambda: public.verify(signature, data, scheme, digest)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    pair = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    return lambda: public.verify(pair, data, ec.ECDSA(digest))


def _rates(measured: Comparison) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(1e6 / each for each in measured.ours), tuple(1e6 / each for each in measured.theirs)


def main() -> int:
    """Measure and print; return 1 where the claim is not met."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=60)
    arguments.add_argument("--calls", type=int, default=400, help="per round")
    options = arguments.parse_args()
    results = [_compared(algorithm, options.calls, options.rounds) for algorithm in ("RS256", "ES256")]
    return 0 if all(results) else 1


if __name__ == "__main__":
    raise SystemExit(_results.run("jwt_verify", main))
