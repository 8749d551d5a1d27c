"""JSON Web Signature in compact serialization, read strictly and written plainly (RFC 7515, RFC 8725).

Reading has two steps, so that nobody uses what nobody verified: `parse_jws` gives an `UnverifiedJWS`, whose header has
been judged and whose payload is a stranger's text until `verify` returns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeGuard

from authsec_sdk.jose import base64url
from authsec_sdk.jose.fault import InvalidTokenError, TokenFault
from authsec_sdk.jose.json_object import load_object
from authsec_sdk.jose.jwk import JWTPublicKey
from authsec_sdk.jose.keys import ALGORITHMS, SignatureAlgorithm, Signer, algorithms_of, check_signature_of_own

__all__ = ["MAX_KEY_ID", "MAX_TOKEN_BYTES", "HeaderRules", "UnverifiedJWS", "format_jws", "parse_jws"]

MAX_TOKEN_BYTES: Final = 16 * 1024
"""No token that is issued comes near: an SVID has some 300 to 600 bytes, and HTTP servers take headers of 8 KiB."""

MAX_KEY_ID: Final = 256

_MAX_CACHED_HEADER: Final = 1024
_PLAIN: Final = frozenset({"alg", "kid", "typ"})
_NEVER: Final = frozenset({"b64", "cty", "enc", "jku", "jwk", "x5c", "x5t", "x5t#S256", "x5u", "zip"})


@dataclass(frozen=True, slots=True)
class HeaderRules:
    """What a kind of token asks of its header, beside what all do."""

    types: frozenset[str | None]
    """The values `typ` may have, compared as they are; None stands for its absence."""

    key_id_required: bool = False

    plain: bool = True
    """Refuse every member but `alg`, `kid` and `typ`. Otherwise unknown ones are passed over (RFC 7515 section 4), and
    only those are refused that say where a key is, what the content is, or how it is encoded."""


@dataclass(frozen=True, slots=True, repr=False)
class UnverifiedJWS:
    """A token whose form and header are right. Nothing says who wrote it before `verify` has returned."""

    algorithm: SignatureAlgorithm
    key_id: str | None
    type: str | None
    unverified_payload: bytes
    _signed: bytes
    _signature: bytes

    def __repr__(self) -> str:
        return f"<UnverifiedJWS {self.algorithm} kid={self.key_id!r} typ={self.type!r}>"

    def unverified_claims(self) -> dict[str, object]:
        """Parse the payload as a JSON object, strictly.

        Raises:
            InvalidTokenError: it is none, or could be read in two ways.
        """
        return load_object(self.unverified_payload, "the payload")

    def verify(self, key: JWTPublicKey) -> None:
        """Return if the token was signed by the private half of this key.

        Raises:
            InvalidTokenError: `alg` is no algorithm for this key, or the signature is wrong.
        """
        if self.algorithm not in algorithms_of(key):
            raise InvalidTokenError(
                TokenFault.ALGORITHM_NOT_ALLOWED, f"{self.algorithm} is no algorithm for the key that is to verify it"
            )
        if not check_signature_of_own(key, self.algorithm, self._signature, self._signed):
            raise InvalidTokenError(TokenFault.BAD_SIGNATURE, "the signature is wrong")


def parse_jws(token: str, rules: HeaderRules) -> UnverifiedJWS:
    """Take a token apart and judge its header. No key is looked up, and nothing is ever fetched.

    Raises:
        InvalidTokenError: it has more than 16 KiB; is not three base64url parts; its header is no JSON object, names
            no algorithm of the nine, has `crit`, tells a key or its place, or breaks the rules of this kind of token.
    """
    if not isinstance(token, str):
        raise InvalidTokenError(TokenFault.MALFORMED, f"a token must be str, not {type(token).__name__}")
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidTokenError(TokenFault.TOO_LARGE, f"the token has more than {MAX_TOKEN_BYTES} characters")
    if token.count(".") != 2:
        raise InvalidTokenError(TokenFault.MALFORMED, "the token is not three parts with dots between (compact JWS)")
    header_text, payload_text, signature_text = token.split(".")
    # Keys sign thousands of tokens under one header; what was judged right once is right again.
    read = _read_header if len(header_text) > _MAX_CACHED_HEADER else _read_header_once
    algorithm, key_id, kind = read(header_text, rules)
    return UnverifiedJWS(
        algorithm,
        key_id,
        kind,
        base64url.decode(payload_text, "the payload"),
        f"{header_text}.{payload_text}".encode("ascii"),
        base64url.decode(signature_text, "the signature"),
    )


def format_jws(claims: Mapping[str, object], kind: str | None, signer: Signer) -> str:
    """Sign claims as a compact JWS with the header members `alg`, `kid`, and `typ` if one is given.

    Raises:
        ValueError: the claims are no JSON.
    """
    header = {"alg": signer.algorithm, "kid": signer.key_id} | ({} if kind is None else {"typ": kind})
    parts = [
        json.dumps(part, separators=(",", ":"), allow_nan=False).encode("ascii") for part in (header, dict(claims))
    ]
    signed = ".".join(base64url.encode(part) for part in parts)
    return f"{signed}.{base64url.encode(signer.sign(signed.encode('ascii')))}"


def _read_header(text: str, rules: HeaderRules) -> tuple[SignatureAlgorithm, str | None, str | None]:
    return _judge_header(load_object(base64url.decode(text, "the header"), "the header"), rules)


_read_header_once = lru_cache(maxsize=256)(_read_header)  # bounded by count and by length; refusals are not kept


def _judge_header(
    header: Mapping[str, object], rules: HeaderRules
) -> tuple[SignatureAlgorithm, str | None, str | None]:
    algorithm = header.get("alg")  # judged before anything else (JWT-SVID section 4)
    if not _is_algorithm(algorithm):
        raise InvalidTokenError(TokenFault.ALGORITHM_NOT_ALLOWED, f"alg must be one of {', '.join(sorted(ALGORITHMS))}")
    if "crit" in header:
        raise InvalidTokenError(TokenFault.CRITICAL, "the header has crit, and no extension is understood here")
    refused = (header.keys() - _PLAIN) if rules.plain else (header.keys() & _NEVER)
    if refused:
        shown = ", ".join(repr(name[:32]) for name in sorted(refused)[:8])
        raise InvalidTokenError(TokenFault.HEADER_NOT_ALLOWED, f"the header must not have {shown}")
    kind = header.get("typ")
    if ("typ" in header and not isinstance(kind, str)) or kind not in rules.types:
        wanted = " or ".join(sorted(repr(name) if name else "absent" for name in rules.types))
        raise InvalidTokenError(TokenFault.WRONG_TYPE, f"typ must be {wanted}")
    return algorithm, _key_id(header, rules), kind


def _key_id(header: Mapping[str, object], rules: HeaderRules) -> str | None:
    if "kid" not in header:
        if rules.key_id_required:
            raise InvalidTokenError(TokenFault.UNKNOWN_KEY, "the header must name the key (kid)")
        return None
    key_id = header["kid"]
    if not isinstance(key_id, str) or not 0 < len(key_id) <= MAX_KEY_ID:
        raise InvalidTokenError(TokenFault.UNKNOWN_KEY, f"kid must be a text of 1 to {MAX_KEY_ID} characters")
    return key_id


def _is_algorithm(value: object) -> TypeGuard[SignatureAlgorithm]:
    return isinstance(value, str) and value in ALGORITHMS
