"""Keys that live as long as the process: after a restart there is a new authority, beside the old one's certificate."""

from __future__ import annotations

from icp_server.ca.keys import PrivateKey, generate_private_key
from icp_server.domain.key_type import KeyType


class MemoryKeyManager:
    """A key manager that keeps nothing on disk."""

    def __init__(self) -> None:
        self._keys: dict[str, PrivateKey] = {}

    def generate(self, name: str, key_type: KeyType) -> PrivateKey:
        """Make a key and keep it under a name."""
        key = generate_private_key(key_type)
        self._keys[name] = key
        return key

    def get(self, name: str) -> PrivateKey | None:
        """The key of this name."""
        return self._keys.get(name)
