"""Keys of every kind, made once, and a writer of tokens that are as wrong as a test wants."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from authsec_sdk.jose.keys import ALGORITHMS, MemorySigner

_CURVES: dict[str, Any] = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}


def b64(data: bytes | str) -> str:
    return base64.urlsafe_b64encode(data.encode() if isinstance(data, str) else data).rstrip(b"=").decode()


@pytest.fixture(scope="session")
def signers() -> dict[str, MemorySigner]:
    """A signer of each algorithm, under the algorithm's name as key ID."""
    private = rsa.generate_private_key(65537, 2048)
    keys: dict[str, Any] = {
        name: ec.generate_private_key(_CURVES[name]()) if name in _CURVES else private for name in sorted(ALGORITHMS)
    }
    return {name: MemorySigner(key, name, name) for name, key in keys.items()}  # type: ignore[arg-type]


Craft = Callable[..., str]


@pytest.fixture(scope="session")
def craft(signers: dict[str, MemorySigner]) -> Craft:
    """Sign any header and payload at all, given as values or as raw text; the signature itself is right."""

    def make(header: Any, payload: Any, algorithm: str = "ES256") -> str:
        parts = [part if isinstance(part, str | bytes) else json.dumps(part) for part in (header, payload)]
        signed = ".".join(b64(part) for part in parts)
        return f"{signed}.{b64(signers[algorithm].sign(signed.encode()))}"

    return make
