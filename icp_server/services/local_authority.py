"""The authorities of this server, moved by hand: prepared, activated, tainted, revoked, in SPIRE's order."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from authsec_sdk.errors import SpiffeError
from icp_server.domain.authorities import AuthorityKind, LocalAuthorities, failed
from icp_server.domain.ca_slots import AuthorityRecord, Status
from icp_server.domain.errors import FailedPrecondition, Internal, ServiceError, Unimplemented
from icp_server.ports import AuthorityControl, Store
from icp_server.services.tokens import DEFAULT_PROFILES, TokenProfiles

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuthorityState:
    """One authority as the API tells of it; without an end where SPIRE says none."""

    authority_id: str
    expires_at: datetime | None = None

    @classmethod
    def of(cls, record: AuthorityRecord) -> AuthorityState:
        """The state of an authority of the journal."""
        return cls(record.authority_id, record.not_after)


@dataclass(frozen=True, slots=True)
class AuthorityStates:
    """The authorities of one kind: of `prepared` and `old` at most one is there."""

    active: AuthorityState
    prepared: AuthorityState | None = None
    old: AuthorityState | None = None

    @classmethod
    def of(cls, authorities: LocalAuthorities) -> AuthorityStates:
        """What an operator is told of the two slots."""
        beside = authorities.next
        state = AuthorityState.of(beside) if beside else None
        prepared = beside is not None and beside.status is Status.PREPARED
        return cls(AuthorityState.of(authorities.active), state if prepared else None, None if prepared else state)


class LocalAuthorityService:
    """The LocalAuthority API's use cases. A kind that is switched off answers UNIMPLEMENTED."""

    def __init__(self, store: Store, control: AuthorityControl, profiles: TokenProfiles = DEFAULT_PROFILES) -> None:
        self._store = store
        self._control = control
        self._profiles = profiles

    def states(self, kind: AuthorityKind) -> AuthorityStates:
        """The authorities of a kind.

        Raises:
            Unimplemented: this kind is switched off.
            Unavailable: there is no active one yet.
        """
        return AuthorityStates.of(self._authorities(kind))

    async def prepare(self, kind: AuthorityKind) -> AuthorityState:
        """Make the next authority and publish it; one prepared before is replaced, and stays published.

        Raises:
            Unimplemented, Unavailable: as for `states`.
            Internal: it cannot be kept.
        """
        self._authorities(kind)
        try:
            return AuthorityState.of(await self._control.prepare(kind))
        except SpiffeError as error:
            raise Internal(f"failed to prepare {kind.words} authority: {error}") from error

    async def activate(self, kind: AuthorityKind, authority_id: str) -> AuthorityState:
        """Sign with the prepared authority from now on; what was active is old.

        Raises:
            Unimplemented, Unavailable: as for `states`.
            InvalidArgument, Internal: it is not the prepared one, or the change cannot be kept.
        """
        self._authorities(kind).check_activation(authority_id)
        try:
            return AuthorityState.of(await self._control.activate(kind, authority_id))
        except ServiceError:
            raise
        except SpiffeError as error:
            raise Internal(f"failed to activate {kind.words} authority: {error}") from error

    async def taint(self, kind: AuthorityKind, authority_id: str) -> AuthorityState:
        """Mark the old authority as tainted: agents replace at once what it signed, and so does this server.

        Raises:
            Unimplemented, Unavailable: as for `states`.
            InvalidArgument: it is not the old one.
            Internal: the bundle does not have it, or it is tainted already.
        """
        record = self._authorities(kind).taintable(authority_id)
        try:
            await self._store.authorities.taint(kind, authority_id)
        except Internal as error:
            raise failed("taint", kind, error) from error
        await self._bundle_changed()
        return AuthorityState.of(record) if kind is AuthorityKind.X509 else AuthorityState(authority_id)

    async def revoke(self, kind: AuthorityKind, authority_id: str) -> AuthorityState:
        """Take a tainted authority out of the bundle: what it signed is worth nothing from now on.

        Raises:
            Unimplemented, Unavailable: as for `states`.
            InvalidArgument: it is in use, or unknown.
            Internal: the bundle does not have it, or it is not tainted.
        """
        self._authorities(kind).check_revocation(kind, authority_id, await self._published_keys(kind))
        try:
            await self._store.authorities.revoke(kind, authority_id)
        except Internal as error:
            raise failed("revoke", kind, error) from error
        await self._bundle_changed()
        return AuthorityState(authority_id)

    def upstream(self) -> None:
        """Taint or revoke what stands above our X.509 authorities.

        Raises:
            FailedPrecondition: they are self-signed.
        """
        raise FailedPrecondition("upstream authority is not configured")

    def _authorities(self, kind: AuthorityKind) -> LocalAuthorities:
        if kind is AuthorityKind.JWT:
            self._profiles.require_jwt()
        if kind is AuthorityKind.WIT and not self._profiles.wit:
            raise Unimplemented("WIT-SVID functionality is not yet implemented")
        return self._control.local_authorities(kind)

    async def _published_keys(self, kind: AuthorityKind) -> frozenset[str]:
        bundle = await self._store.bundles.get(self._store.trust_domain)
        if bundle is None:
            return frozenset()
        keys = bundle.wit_authorities if kind is AuthorityKind.WIT else bundle.jwt_authorities
        return frozenset(keys)

    async def _bundle_changed(self) -> None:
        try:
            await self._control.bundle_changed()
        except SpiffeError as error:  # the change itself is made; the next tick tries this again
            logger.warning("Could not rotate server SVID error=%s", error)
