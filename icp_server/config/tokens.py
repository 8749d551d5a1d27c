"""The settings about JWT-SVIDs and WIT-SVIDs: which are signed, by what keys, under what issuer."""

from __future__ import annotations

from typing import Final

from authsec_sdk.hcl import Fields
from icp_server.config.choice import choice
from icp_server.config.model import Tokens
from icp_server.domain.key_type import KeyType

KEY_TYPES: Final = tuple(kind.value for kind in KeyType)
WIT_FLAG: Final = "wit-svid"
_FLAGS: Final = (WIT_FLAG,)


def read_tokens(server: Fields, experimental: Fields | None, notes: list[str]) -> Tokens:
    """Read them; what is set for tokens that are not signed is told in `notes`.

    Raises:
        ConfigurationError: a key type or a feature flag is unknown.
    """
    wit = experimental is not None and WIT_FLAG in _feature_flags(experimental)
    tokens = Tokens(
        jwt=not server.boolean("disable_jwt_svids"),
        jwt_issuer=server.text("jwt_issuer") or "",
        jwt_key_type=_key_type(server, "jwt_key_type"),
        wit=wit,
        wit_issuer=(experimental.text("wit_issuer") or "") if experimental else "",
        wit_key_type=_key_type(experimental, "wit_key_type") if experimental else None,
    )
    if not tokens.jwt and (tokens.jwt_issuer or tokens.jwt_key_type):
        notes.append("jwt_issuer and jwt_key_type have no effect: disable_jwt_svids is set")
    if not wit and (tokens.wit_issuer or tokens.wit_key_type):
        notes.append(f"wit_issuer and wit_key_type have no effect without the feature flag {WIT_FLAG}")
    return tokens


def _feature_flags(experimental: Fields) -> tuple[str, ...]:
    flags = experimental.texts("feature_flags") or ()
    for flag in flags:
        if flag not in _FLAGS:
            raise experimental.error(f"unknown feature flag {flag!r} (known: {', '.join(_FLAGS)})", "feature_flags")
    return flags


def _key_type(fields: Fields, key: str) -> KeyType | None:
    text = choice(fields, key, KEY_TYPES, "")
    return KeyType(text) if text else None
