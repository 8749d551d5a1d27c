"""Which entries an agent may serve: its own, those below them, and those of the node aliases it matches.

Pure, in memory. What a question costs depends on the entries in its answer, not on how many there are in all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.entries import RegistrationEntry
from authsec_sdk.spire.reserved_ids import server_id
from authsec_sdk.spire.selectors import Selector

_K = TypeVar("_K")


class EntryIndex:
    """The entries of one trust domain by id, parent, SPIFFE ID and, for node aliases, by a selector."""

    def __init__(self, trust_domain: TrustDomain, entries: Iterable[RegistrationEntry] = ()) -> None:
        self._alias_parent = server_id(trust_domain)
        self._by_id: dict[str, RegistrationEntry] = {}
        self._by_parent: dict[SpiffeID, dict[str, RegistrationEntry]] = {}
        self._by_spiffe_id: dict[SpiffeID, dict[str, RegistrationEntry]] = {}
        self._aliases: dict[Selector, dict[str, RegistrationEntry]] = {}
        for entry in entries:
            self.put(entry)

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[RegistrationEntry]:
        return iter(self._by_id.values())

    def get(self, entry_id: str) -> RegistrationEntry | None:
        """The entry with this id."""
        return self._by_id.get(entry_id)

    def put(self, entry: RegistrationEntry) -> None:
        """Add an entry, or replace the one with its id."""
        self.remove(entry.id)
        self._by_id[entry.id] = entry
        self._by_parent.setdefault(entry.parent_id, {})[entry.id] = entry
        self._by_spiffe_id.setdefault(entry.spiffe_id, {})[entry.id] = entry
        if entry.parent_id == self._alias_parent and entry.selectors:
            self._aliases.setdefault(min(entry.selectors), {})[entry.id] = entry

    def remove(self, entry_id: str) -> None:
        """Forget the entry with this id, if there is one."""
        entry = self._by_id.pop(entry_id, None)
        if entry is None:
            return
        _drop(self._by_parent, entry.parent_id, entry_id)
        _drop(self._by_spiffe_id, entry.spiffe_id, entry_id)
        if entry.parent_id == self._alias_parent and entry.selectors:
            _drop(self._aliases, min(entry.selectors), entry_id)

    def with_spiffe_id(self, spiffe_id: SpiffeID) -> tuple[RegistrationEntry, ...]:
        """The entries that give a workload this ID."""
        return tuple(self._by_spiffe_id.get(spiffe_id, {}).values())

    def aliases_of(self, node_selectors: Iterable[Selector]) -> tuple[RegistrationEntry, ...]:
        """The node aliases (parent: the server) all of whose selectors the node has."""
        having = frozenset(node_selectors)
        found: dict[str, RegistrationEntry] = {}
        for selector in having:
            for entry in self._aliases.get(selector, {}).values():
                if having.issuperset(entry.selectors):
                    found[entry.id] = entry
        return tuple(found.values())

    def authorized(
        self, agent_id: SpiffeID, node_selectors: Iterable[Selector], now: float
    ) -> tuple[RegistrationEntry, ...]:
        """Every unexpired entry the agent may serve, sorted by id.

        An expired entry is not walked through either: what hangs below it is reached through a live one or not at all.
        """
        found: dict[str, RegistrationEntry] = {}
        aliases = [entry for entry in self.aliases_of(node_selectors) if not entry.expired(now)]
        found.update((entry.id, entry) for entry in aliases)
        pending = [agent_id, *(entry.spiffe_id for entry in aliases)]
        visited: set[SpiffeID] = set()
        while pending:
            parent = pending.pop()
            if parent in visited:
                continue
            visited.add(parent)
            for entry in self._by_parent.get(parent, {}).values():
                if not entry.expired(now):
                    found[entry.id] = entry
                    pending.append(entry.spiffe_id)
        return tuple(found[entry_id] for entry_id in sorted(found))


def _drop(index: dict[_K, dict[str, RegistrationEntry]], key: _K, entry_id: str) -> None:
    bucket = index[key]
    del bucket[entry_id]
    if not bucket:
        del index[key]
