"""Where private keys of authorities live, and where the secrets come from that open that place: as settings alone."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias


class SecretPlace(enum.Enum):
    """Where a secret is read from; never the configuration itself, which is shown and copied."""

    FILE = "file"
    """A file that only its owner can read."""
    ENVIRONMENT = "env"
    CREDENTIAL = "credential"
    """A systemd credential (`LoadCredentialEncrypted=`)."""


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Names a secret and does not hold it; it is read when it is needed."""

    place: SecretPlace
    name: str
    """The path, the variable, or the credential."""

    def __str__(self) -> str:
        return f"{self.place.value} {self.name}"


@dataclass(frozen=True, slots=True)
class MemoryKeys:
    """Keys in memory, gone with the process."""


@dataclass(frozen=True, slots=True)
class DiskKeys:
    """Keys in one file."""

    path: Path
    seal: SecretSource | None = None
    """What the file is encrypted with; None: it is as readable as its mode says."""


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """Keys in a PKCS #11 token, which they never leave."""

    module: Path
    """The token's PKCS #11 library."""
    token_label: str
    pin: SecretSource
    token_serial: str = ""
    """Which one, where several tokens have the label."""
    identifier: str = ""
    """Tells this server's keys from those of others in the same token."""
    identifier_file: Path | None = None
    """Has the identifier, and is made with a random one if it is missing."""
    timeout: float = 10.0
    """Seconds the token has for each answer."""


KeySettings: TypeAlias = MemoryKeys | DiskKeys | TokenKeys
