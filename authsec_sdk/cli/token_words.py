"""Every rule for a JWT-SVID or WIT-SVID, kept or broken, in words and with its clause; never the token; pure.

The verdict is `authsec_sdk.spiffe`'s, which stops at the first broken rule. This tells all of them.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

from authsec_sdk.cli.output import Facts
from authsec_sdk.cli.x509_words import lifetime_words
from authsec_sdk.errors import SpiffeError
from authsec_sdk.jose import base64url
from authsec_sdk.jose.fault import InvalidTokenError, TokenFault
from authsec_sdk.jose.json_object import load_object
from authsec_sdk.jose.jws import MAX_TOKEN_BYTES
from authsec_sdk.jose.keys import ALGORITHMS
from authsec_sdk.spiffe import SpiffeID

__all__ = ["kept_or_broken", "looks_like_a_token", "token_facts"]

_Parts = Mapping[str, object]
_SHOWN: Final = 512
_TYPES: Final = ("JWT", "JOSE")
_PLAIN: Final = frozenset({"alg", "kid", "typ"})


@dataclass(frozen=True, slots=True)
class _Rule:
    clause: str
    words: str
    kept: Callable[[_Parts, _Parts], bool]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _has_algorithm(head: _Parts, _claims: _Parts) -> bool:
    algorithm = head.get("alg")
    return isinstance(algorithm, str) and algorithm in ALGORITHMS


def _is_id(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(SpiffeID.parse(value).path)
    except SpiffeError:
        return False


def _is_audience(value: object) -> bool:
    names = [value] if isinstance(value, str) else value
    return isinstance(names, list) and bool(names) and all(isinstance(name, str) and name for name in names)


def _confirms(claims: _Parts) -> bool:
    confirmation = claims.get("cnf")
    return isinstance(confirmation, dict) and isinstance(confirmation.get("jwk"), dict)


_JWT: Final = (
    _Rule("JWT-SVID 2.1", "alg is one of the standard's nine", _has_algorithm),
    _Rule(
        "JWT-SVID 2.3",
        "typ, where there is one, is JWT or JOSE",
        lambda head, _: head.get("typ", "JWT") in ("JWT", "JOSE"),
    ),
    _Rule(
        "JWT-SVID 2",
        "the header has nothing but alg, kid and typ",
        lambda head, _: head.keys() <= {"alg", "kid", "typ"},
    ),
    _Rule("JWT-SVID 3.1", "sub is the SPIFFE ID of a workload", lambda _, claims: _is_id(claims.get("sub"))),
    _Rule("JWT-SVID 3.2", "aud names who it is for", lambda _, claims: _is_audience(claims.get("aud"))),
    _Rule("JWT-SVID 3.3", "exp says when it ends", lambda _, claims: _is_number(claims.get("exp"))),
)
_WIT: Final = (
    _Rule("WIT-SVID 2", "alg is one of the standard's nine", _has_algorithm),
    _Rule("WIT-SVID 2", "typ is wit+jwt", lambda head, _: head.get("typ") == "wit+jwt"),
    _Rule("WIT-SVID 2", "kid names the key", lambda head, _: isinstance(head.get("kid"), str) and bool(head["kid"])),
    _Rule("WIT-SVID 3", "sub is the SPIFFE ID of a workload", lambda _, claims: _is_id(claims.get("sub"))),
    _Rule("WIT-SVID 3", "there is no aud: what is for somebody is the proof", lambda _, claims: "aud" not in claims),
    _Rule("WIT-SVID 3.2", "cnf holds the workload's public key", lambda _, claims: _confirms(claims)),
    _Rule("WIT-SVID 3", "exp says when it ends", lambda _, claims: _is_number(claims.get("exp"))),
)


def looks_like_a_token(text: str) -> bool:
    """Whether this is three parts with dots between, of letters that tokens have."""
    parts = text.split(".")
    return len(parts) == 3 and all(part.replace("-", "").replace("_", "").isalnum() for part in parts)


def kept_or_broken(facts: Facts) -> list[Facts]:
    """Return the rules of what `token_facts` says."""
    return cast("list[Facts]", facts["rules"])


def token_facts(token: str, *, now: datetime) -> tuple[str, Facts]:
    """Say what a token says of itself, which nothing shows to be true; `wit` or `jwt`, and the facts.

    Raises:
        InvalidTokenError: it cannot be taken apart.
    """
    try:
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidTokenError(TokenFault.TOO_LARGE, f"the token has more than {MAX_TOKEN_BYTES} characters")
        first, second, _ = token.split(".")
        header = load_object(base64url.decode(first, "the header"), "the header")
        claims = load_object(base64url.decode(second, "the payload"), "the payload")
    finally:
        del token
    kind = "wit" if header.get("typ") == "wit+jwt" else "jwt"
    rules = _WIT if kind == "wit" else _JWT
    facts: Facts = {
        "kind": "WIT-SVID" if kind == "wit" else "JWT-SVID",
        "header": {name: _shown(value) for name, value in header.items()},
        "claims": {name: _shown(value) for name, value in claims.items()},
    }
    if (life := _life(claims, now)) is not None:
        facts["validity"] = life
    facts["rules"] = [
        {"rule": rule.words, "clause": rule.clause, "result": "ok" if rule.kept(header, claims) else "BROKEN"}
        for rule in rules
    ]
    return kind, facts


def _life(claims: _Parts, now: datetime) -> str | None:
    try:
        ends = datetime.fromtimestamp(float(claims["exp"]), UTC)  # type: ignore[arg-type]
        begins = claims.get("nbf", claims.get("iat"))
        since = now if begins is None else datetime.fromtimestamp(float(begins), UTC)  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None
    return lifetime_words(since, ends, now=now)


def _shown(value: object) -> object:
    """Return a value of JSON, cut where it is long: a claim may hold another token."""
    text = value if isinstance(value, str) else json.dumps(value)
    if looks_like_a_token(text) and len(text) > 64:
        return f"(a token of {len(text)} characters)"
    return value if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
