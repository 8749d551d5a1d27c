"""The settings of a key manager: where keys are, and where the secret is that opens that place."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Final

from authsec_sdk.hcl import Fields
from icp_server.domain.key_settings import (
    DiskKeys,
    KeySettings,
    MemoryKeys,
    SecretPlace,
    SecretSource,
    TokenKeys,
)

_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TIMEOUT: Final = timedelta(seconds=10)
_SHORTEST: Final = timedelta(seconds=1)


def read_key_manager(name: str, data: Fields) -> KeySettings:
    """Read the `plugin_data` of the key manager of this name, which is one of the built ones.

    Raises:
        ConfigurationError: a setting is missing or wrong, or two exclude each other.
    """
    if name == "memory":
        return MemoryKeys()
    if name == "disk":
        return DiskKeys(Path(_needed(data, "keys_path")), _secret(data, "seal"))
    return _token(data)


def _token(data: Fields) -> TokenKeys:
    pin = _secret(data, "pin")
    if pin is None:
        raise data.error(f"one of pin_file, pin_env and pin_credential in {data.where} must be set")
    identifier, file = data.text("key_identifier_value"), data.text("key_identifier_file")
    if bool(identifier) == bool(file):
        raise data.error(f"exactly one of key_identifier_file and key_identifier_value in {data.where} must be set")
    if identifier and not _IDENTIFIER.fullmatch(identifier):
        raise data.error(
            f"key_identifier_value in {data.where} must be 1 to 64 letters, digits, '.', '_' and '-'",
            "key_identifier_value",
        )
    return TokenKeys(
        module=Path(_needed(data, "module_path")),
        token_label=_needed(data, "token_label"),
        token_serial=data.text("token_serial") or "",
        pin=pin,
        identifier=identifier or "",
        identifier_file=Path(file) if file else None,
        timeout=(data.duration("timeout", minimum=_SHORTEST) or _TIMEOUT).total_seconds(),
    )


def _secret(data: Fields, word: str) -> SecretSource | None:
    found = [SecretSource(place, text) for place in SecretPlace if (text := data.text(f"{word}_{place.value}"))]
    if len(found) > 1:
        raise data.error(f"only one of {word}_file, {word}_env and {word}_credential in {data.where} may be set")
    if found and found[0].place is SecretPlace.CREDENTIAL and "/" in found[0].name:
        raise data.error(
            f"{word}_credential in {data.where} is the name of a credential, not a path", f"{word}_credential"
        )
    return found[0] if found else None


def _needed(data: Fields, key: str) -> str:
    text = data.text(key)
    if not text:
        raise data.error(f"{key} in {data.where} must be set")
    return text
