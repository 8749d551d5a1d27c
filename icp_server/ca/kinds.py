"""What differs between the kinds of authorities: how one is made, published, joined with its key, and put to work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from icp_server.ca.authority import SigningAuthority, self_signed
from icp_server.ca.keys import PrivateKey, public_key_info
from icp_server.ca.signer import SVIDSigner
from icp_server.ca.token_key import TokenKey, new_key_id
from icp_server.ca.token_signer import ActiveTokenKey, SVIDTokenSigner
from icp_server.domain.authorities import AuthorityKind
from icp_server.domain.ca_slots import AuthorityRecord, Status
from icp_server.domain.key_type import KeyType
from icp_server.domain.svid_template import CASubject, ca_template, new_serial_number
from icp_server.ports import Store

A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class CASettings:
    """What the operator chose for the authorities."""

    ca_ttl: timedelta = timedelta(hours=24)
    key_type: KeyType = KeyType.EC_P256
    subject: CASubject = field(default_factory=CASubject)
    jwt_key_type: KeyType | None = None
    """None: as key_type."""
    wit_key_type: KeyType | None = None
    """None: as key_type."""
    jwt: bool = True
    """Whether there are JWT authorities."""
    wit: bool = False
    """Whether there are WIT authorities."""


class SlotKind(Protocol[A]):
    """A kind of authority, as the rotator turns it through its slots."""

    @property
    def kind(self) -> AuthorityKind:
        """Which one."""

    @property
    def title(self) -> str:
        """As logs name it."""

    @property
    def key_type(self) -> KeyType:
        """What keys its authorities have."""

    def key_name(self, slot: str) -> str:
        """The name a slot's key has in the key manager (SPIRE's own, so its key files can be taken over)."""

    async def made(self, key: PrivateKey, slot: str, now: datetime) -> AuthorityRecord:
        """A prepared authority of a fresh key."""

    async def publish(self, record: AuthorityRecord) -> None:
        """Put it into the bundle; nothing happens if it is there."""

    def joined(self, record: AuthorityRecord, key: PrivateKey | None) -> A | None:
        """The authority with its key; None if that is not the key of the record."""

    def activate(self, authority: A) -> None:
        """Sign with it from now on."""


class X509Kind:
    """Authorities that sign X.509: self-signed certificates."""

    kind = AuthorityKind.X509
    title = "X509 CA"

    def __init__(self, store: Store, signer: SVIDSigner, settings: CASettings) -> None:
        self._store = store
        self._settings = settings
        self.key_type = settings.key_type
        self._signer = signer
        self.activate: Callable[[SigningAuthority], None] = signer.activate

    def key_name(self, slot: str) -> str:
        """See `SlotKind`."""
        return f"x509-CA-{slot}"

    async def made(self, key: PrivateKey, slot: str, now: datetime) -> AuthorityRecord:
        """See `SlotKind`."""
        template = ca_template(
            self._store.trust_domain, now, self._settings.ca_ttl, self._settings.subject, new_serial_number()
        )
        template = self._signer.composed_ca(template)
        certificate, authority_id = await asyncio.to_thread(self_signed, template, key)
        return AuthorityRecord(authority_id, slot, Status.PREPARED, now, template.not_after, certificate)

    async def publish(self, record: AuthorityRecord) -> None:
        """See `SlotKind`."""
        await self._store.bundles.append_x509(record.data)

    def joined(self, record: AuthorityRecord, key: PrivateKey | None) -> SigningAuthority | None:
        """See `SlotKind`."""
        return SigningAuthority.of(record, key)


class TokenKind:
    """Authorities that sign tokens: keys with an ID, which end as a CA of the same age would."""

    def __init__(
        self, kind: AuthorityKind, store: Store, active: ActiveTokenKey, key_type: KeyType, lifetime: timedelta
    ) -> None:
        self.kind = kind
        self.title = f"{active.words} key"
        self.key_type = key_type
        self.activate: Callable[[TokenKey], None] = active.activate
        self._words = active.words
        self._store = store
        self._lifetime = lifetime

    def key_name(self, slot: str) -> str:
        """See `SlotKind`."""
        return f"{self._words}-Signer-{slot}"

    async def made(self, key: PrivateKey, slot: str, now: datetime) -> AuthorityRecord:
        """See `SlotKind`."""
        end = now.replace(microsecond=0) + self._lifetime
        return AuthorityRecord(new_key_id(), slot, Status.PREPARED, now, end, public_key_info(key))

    async def publish(self, record: AuthorityRecord) -> None:
        """See `SlotKind`."""
        await self._store.authorities.append_key(
            self.kind, record.authority_id, record.data, int(record.not_after.timestamp())
        )

    def joined(self, record: AuthorityRecord, key: PrivateKey | None) -> TokenKey | None:
        """See `SlotKind`."""
        return TokenKey.of(record, key)


def slot_kinds(
    store: Store, signer: SVIDSigner, tokens: SVIDTokenSigner, settings: CASettings
) -> tuple[SlotKind[SigningAuthority] | SlotKind[TokenKey], ...]:
    """The kinds of a server by its settings, X.509 first."""
    kinds: list[SlotKind[SigningAuthority] | SlotKind[TokenKey]] = [X509Kind(store, signer, settings)]
    if settings.jwt:
        key_type = settings.jwt_key_type or settings.key_type
        kinds.append(TokenKind(AuthorityKind.JWT, store, tokens.jwt, key_type, settings.ca_ttl))
    if settings.wit:
        key_type = settings.wit_key_type or settings.key_type
        kinds.append(TokenKind(AuthorityKind.WIT, store, tokens.wit, key_type, settings.ca_ttl))
    return tuple(kinds)
