"""Two independent libraries as oracles: what we sign verifies in both, and what we accept both accept, mutated or not.

They are for development only. The reverse does not hold and must not: both take duplicate members and any `typ`.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, cast

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from joserfc import jwt as joserfc_jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from authsec_sdk.errors import NoBundleForTrustDomainError
from authsec_sdk.jose.fault import InvalidTokenError
from authsec_sdk.jose.jws import format_jws
from authsec_sdk.jose.keys import ALGORITHMS, MemorySigner
from authsec_sdk.spiffe import JWTSVID, BundleSet, JWTBundle, TrustDomain

Craft = Callable[..., str]
DOMAIN = TrustDomain("example.org")
LEEWAY = 30
# The oracles read the clock themselves, so that nothing near a boundary of this second is to be generated.
NOW = int(time.time())
CLAIMS = {"sub": "spiffe://example.org/a", "aud": ["payments"], "exp": NOW + 3000, "iat": NOW - 10, "nbf": NOW - 10}


def ours(token: str, signers: Mapping[str, MemorySigner]) -> dict[str, Any]:
    """Validate with our own code; raises InvalidTokenError."""
    keys = {name: signer.public_key for name, signer in signers.items()}
    svid = JWTSVID.parse_and_validate(token, BundleSet.of(JWTBundle(DOMAIN, keys)), ["payments"], now=datetime.now(UTC))
    return cast("dict[str, Any]", plain(svid.claims))


def plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, tuple) else value


def by_pyjwt(token: str, signer: MemorySigner) -> dict[str, Any]:
    options: Any = {"require": ["sub", "aud", "exp"]}
    return pyjwt.decode(
        token,
        cast("Any", signer.public_key),
        algorithms=sorted(ALGORITHMS),
        audience=["payments"],
        leeway=LEEWAY,
        options=options,
    )


def by_joserfc(token: str, signer: MemorySigner) -> dict[str, Any]:
    pem = signer.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    key: Any = (
        ECKey.import_key(pem) if isinstance(signer.public_key, ec.EllipticCurvePublicKey) else RSAKey.import_key(pem)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decoded = joserfc_jwt.decode(token, key, algorithms=sorted(ALGORITHMS))
    registry = joserfc_jwt.JWTClaimsRegistry(
        leeway=LEEWAY,
        sub={"essential": True},
        exp={"essential": True},
        aud={"essential": True, "values": ["payments"]},
    )
    registry.validate(decoded.claims)
    return dict(decoded.claims)


ORACLES = (by_pyjwt, by_joserfc)


@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_what_we_sign_verifies_in_both(signers: dict[str, MemorySigner], algorithm: str, oracle: Any) -> None:
    token = format_jws(CLAIMS, "JWT", signers[algorithm])
    assert oracle(token, signers[algorithm]) == CLAIMS == ours(token, signers)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_what_they_sign_verifies_here(signers: dict[str, MemorySigner], algorithm: str) -> None:
    key: Any = signers[algorithm].private_key
    token = pyjwt.encode(CLAIMS, key, algorithm, headers={"kid": algorithm})
    assert ours(token, signers) == CLAIMS


@pytest.mark.parametrize("oracle", ORACLES)
def test_the_oracles_refuse_at_all(signers: dict[str, MemorySigner], oracle: Any) -> None:
    """Else they would agree to everything, and prove nothing."""
    signer = signers["ES256"]
    good = format_jws(CLAIMS, "JWT", signer)
    expired = format_jws(CLAIMS | {"exp": NOW - 100}, "JWT", signer)
    other = format_jws(CLAIMS | {"aud": "other"}, "JWT", signer)
    for wrong in (good[:-4] + "AAAA", expired, other):
        with pytest.raises((pyjwt.PyJWTError, JoseError)):
            oracle(wrong, signer)


def compare(token: str, signers: dict[str, MemorySigner], algorithm: str) -> None:
    """Fail if we accept what an oracle refuses, or read other claims than it."""
    try:
        claims = ours(token, signers)
    except InvalidTokenError as error:
        event(error.fault.value)
        return
    except NoBundleForTrustDomainError:
        event("no bundle")
        return
    event("accepted")
    for oracle in ORACLES:
        assert oracle(token, signers[algorithm]) == claims


_times = st.sampled_from([NOW - 4000, NOW - 100, NOW - 10, NOW + 10, NOW + 100, NOW + 4000, NOW + 4000.5, 0, -1, 2**40])
_junk = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.just([]) | st.just({}) | st.floats()
_audiences = st.sampled_from(
    ["payments", "", "Payments", "pay", ["payments"], ["x", "payments"], ["payments", 1], [[]]]
)
_subjects = st.sampled_from(
    ["spiffe://example.org/a", "spiffe://example.org", "spiffe://x/a", "spiffe://example.org/a\n"]
)
_claims = st.fixed_dictionaries(
    {},
    optional={
        "sub": _subjects | _junk,
        "aud": _audiences | _junk,
        "exp": _times | _junk,
        "nbf": _times | _junk,
        "iat": _times | _junk,
        "iss": st.text(max_size=5) | _junk,
        "jti": st.text(max_size=5) | _junk,
        "cnf": _junk,
        "x": _junk,
    },
)
_headers = st.fixed_dictionaries(
    {},
    optional={
        "alg": st.sampled_from([*sorted(ALGORITHMS), "none", "HS256", "EdDSA", "es256"]) | _junk,
        "kid": st.sampled_from([*sorted(ALGORITHMS), "other"]) | _junk,
        "typ": st.sampled_from(["JWT", "JOSE", "jwt", "at+jwt"]) | _junk,
        "crit": st.just(["exp"]) | _junk,
        "b64": _junk,
        "jwk": _junk,
    },
)
_algorithms = st.sampled_from(sorted(ALGORITHMS))
_many = settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@_many
@given(claims=_claims, without=st.sets(st.sampled_from(sorted(CLAIMS)), max_size=2), algorithm=_algorithms)
def test_other_claims(
    signers: dict[str, MemorySigner], craft: Craft, claims: Any, without: set[str], algorithm: str
) -> None:
    payload = {name: value for name, value in (CLAIMS | claims).items() if name not in without}
    compare(craft({"alg": algorithm, "kid": algorithm, "typ": "JWT"}, payload, algorithm), signers, algorithm)


@_many
@given(header=_headers, without=st.sets(st.sampled_from(["alg", "kid", "typ"]), max_size=2), algorithm=_algorithms)
def test_other_headers(
    signers: dict[str, MemorySigner], craft: Craft, header: Any, without: set[str], algorithm: str
) -> None:
    members = {"alg": algorithm, "kid": algorithm, "typ": "JWT", **header}
    token = craft({name: value for name, value in members.items() if name not in without}, CLAIMS, algorithm)
    compare(token, signers, algorithm)


_GOOD_TEXT = json.dumps(CLAIMS)


@_many
@given(
    position=st.integers(0, len(_GOOD_TEXT)),
    cut=st.integers(0, 6),
    insert=st.sampled_from(
        ["", " ", "\n", "\t", "\x00", ",", '"', "{", "}", "[", "]", "\\u0041", "\ufeff", "é", "0", "1e3", "NaN"]
    ),
    in_header=st.booleans(),
)
def test_other_texts_rightly_signed(
    signers: dict[str, MemorySigner], craft: Craft, position: int, cut: int, insert: str, in_header: bool
) -> None:
    header = '{"alg":"ES256","kid":"ES256","typ":"JWT"}'
    if in_header:
        position %= len(header)
        token = craft(header[:position] + insert + header[position + cut :], CLAIMS)
    else:
        token = craft(header, _GOOD_TEXT[:position] + insert + _GOOD_TEXT[position + cut :])
    compare(token, signers, "ES256")


@_many
@given(data=st.data())
def test_other_letters_in_the_token(signers: dict[str, MemorySigner], data: st.DataObject) -> None:
    algorithm = data.draw(_algorithms)
    token = format_jws(CLAIMS, "JWT", signers[algorithm])
    for _ in range(data.draw(st.integers(0, 3))):
        position = data.draw(st.integers(0, len(token)))
        insert = data.draw(st.sampled_from(["", "A", "_", "-", "=", "+", "/", ".", " ", "\n", "é", "%41"]))
        token = token[:position] + insert + token[position + data.draw(st.integers(0, 2)) :]
    compare(token, signers, algorithm)


@_many
@given(data=st.binary(max_size=140), algorithm=_algorithms)
def test_other_signatures(signers: dict[str, MemorySigner], data: bytes, algorithm: str) -> None:
    import base64

    signed = format_jws(CLAIMS, "JWT", signers[algorithm]).rpartition(".")[0]
    compare(f"{signed}.{base64.urlsafe_b64encode(data).rstrip(b'=').decode()}", signers, algorithm)
