"""The authorities of this server, moved by hand: prepared, activated, tainted, revoked, in SPIRE's order."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from authsec_sdk.errors import SpiffeError
from icp_server.domain.authorities import AuthorityKind, LocalAuthorities, failed
from icp_server.domain.ca_slots import AuthorityRecord, Status
from icp_server.domain.errors import FailedPrecondition, Internal, ServiceError, Unimplemented
from icp_server.domain.upstream_root import certificate_key_id, root_key_id, upstream_root_id
from icp_server.ports import AuthorityControl, Store
from icp_server.services.tokens import DEFAULT_PROFILES, TokenProfiles

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuthorityState:
    """One authority as the API tells of it; without an end where SPIRE says none."""

    authority_id: str
    expires_at: datetime | None = None
    upstream_id: str = ""
    """The key identifier of the root above it; empty for one that is self-signed, or signs tokens."""

    @classmethod
    def of(cls, record: AuthorityRecord) -> AuthorityState:
        """The state of an authority of the journal."""
        return cls(record.authority_id, record.not_after, upstream_root_id(record))


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

    def __init__(
        self,
        store: Store,
        control: AuthorityControl,
        profiles: TokenProfiles = DEFAULT_PROFILES,
        *,
        has_upstream: bool = False,
    ) -> None:
        self._has_upstream = has_upstream
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
            FailedPrecondition: an upstream authority signed it, which alone can be tainted.
            InvalidArgument: it is not the old one.
            Internal: the bundle does not have it, or it is tainted already.
        """
        self._check_self_signed(kind, "tainted")
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
            FailedPrecondition: an upstream authority signed it, which alone can be revoked.
            InvalidArgument: it is in use, or unknown.
            Internal: the bundle does not have it, or it is not tainted.
        """
        self._check_self_signed(kind, "revoked")
        self._authorities(kind).check_revocation(kind, authority_id, await self._published_keys(kind))
        try:
            await self._store.authorities.revoke(kind, authority_id)
        except Internal as error:
            raise failed("revoke", kind, error) from error
        await self._bundle_changed()
        return AuthorityState(authority_id)

    async def taint_upstream(self, subject_key_id: str) -> str:
        """Mark the upstream authority above our old one as tainted; its key identifier.

        Raises:
            FailedPrecondition: our X.509 authorities are self-signed.
            Unavailable: there is no active one yet.
            InvalidArgument: it does not stand above the old authority, or above the active one too.
            Internal: the bundle does not have it, or it is tainted already.
        """
        root = await self._upstream_root(subject_key_id)
        try:
            await self._store.authorities.taint(AuthorityKind.X509, root)
        except Internal as error:
            raise Internal(f"failed to taint upstream authority: {error.message}") from error
        await self._bundle_changed()
        return subject_key_id

    async def revoke_upstream(self, subject_key_id: str) -> str:
        """Take a tainted upstream authority out of the bundle; its key identifier.

        Raises:
            FailedPrecondition, Unavailable, InvalidArgument: as for `taint_upstream`.
            Internal: the bundle does not have it, or it is not tainted.
        """
        root = await self._upstream_root(subject_key_id)
        try:
            await self._store.authorities.revoke(AuthorityKind.X509, root)
        except Internal as error:
            raise Internal(f"failed to revoke X.509 upstream authority: {error.message}") from error
        await self._bundle_changed()
        return subject_key_id

    async def _upstream_root(self, subject_key_id: str) -> str:
        """The identifier that the store has for an upstream authority which may be tainted or revoked."""
        if not self._has_upstream:
            raise FailedPrecondition("upstream authority is not configured")
        self._control.local_authorities(AuthorityKind.X509).check_upstream(subject_key_id)
        bundle = await self._store.bundles.get(self._store.trust_domain)
        roots = bundle.x509_authorities if bundle else ()
        found = (certificate_key_id(root) for root in roots if root_key_id(root) == subject_key_id)
        return next(found, subject_key_id)

    def _check_self_signed(self, kind: AuthorityKind, verb: str) -> None:
        if kind is AuthorityKind.X509 and self._has_upstream:
            raise FailedPrecondition(f"local authority can't be {verb} if there is an upstream authority")

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
