"""JWT-SVIDs and WIT-SVIDs: for agents' entries, and for administrators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.entries import RegistrationEntry
from authsec_sdk.spire.svids import IssuedToken
from icp_server.domain.agent import Agent
from icp_server.domain.confirmation import read_confirmation_key
from icp_server.domain.errors import (
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    ServiceError,
    Unavailable,
    Unimplemented,
)
from icp_server.domain.results import MAX_BATCH, ItemResult
from icp_server.domain.token_template import JWTRequest, WITRequest, checked_audience
from icp_server.ports import TokenSigner
from icp_server.services.entries import EntryService


@dataclass(frozen=True, slots=True)
class NewWITSVID:
    """One item of a batch an agent asks for: a WIT-SVID of the entry, bound to a key (SubjectPublicKeyInfo, DER)."""

    entry_id: str
    public_key: bytes
    algorithm: str


@dataclass(frozen=True, slots=True)
class TokenProfiles:
    """Which kinds of tokens this server signs."""

    jwt: bool = True
    wit: bool = False

    def require_jwt(self) -> None:
        """Return if JWT-SVIDs are signed.

        Raises:
            Unimplemented: they were switched off (`disable_jwt_svids`).
        """
        if not self.jwt:
            raise Unimplemented("JWT functionality is disabled")

    def require_wit(self) -> None:
        """Return if WIT-SVIDs are signed.

        Raises:
            Unimplemented: they were not switched on (feature flag `wit-svid`).
        """
        if not self.wit:
            raise Unimplemented("WIT functionality is disabled")


DEFAULT_PROFILES: Final = TokenProfiles()


class TokenService:
    """The token half of the SVID API over one trust domain. What is switched off is refused before anything else."""

    def __init__(self, signer: TokenSigner, entries: EntryService, profiles: TokenProfiles = DEFAULT_PROFILES) -> None:
        self._signer = signer
        self._entries = entries
        self.profiles = profiles

    async def mint_jwt(self, spiffe_id: SpiffeID, audience: Sequence[str], ttl: int) -> IssuedToken:
        """Sign a JWT-SVID for any workload's ID; ``ttl`` ≤ 0 means the default. For administrators only.

        Raises:
            Unimplemented: JWT-SVIDs are switched off.
            InvalidArgument: there is no audience.
            Internal: it cannot be signed, or all of the audience is empty.
        """
        self.profiles.require_jwt()
        return await self._sign_jwt(JWTRequest(spiffe_id, checked_audience(audience), ttl))

    async def new_jwt(self, agent: Agent, entry_id: str, audience: Sequence[str]) -> IssuedToken:
        """Sign a JWT-SVID for an entry the agent is authorized for.

        Raises:
            Unimplemented: JWT-SVIDs are switched off.
            NotFound: the entry is unknown, or not this agent's.
            InvalidArgument, Internal: as for `mint_jwt`.
        """
        self.profiles.require_jwt()
        entry = (await self._entries.authorized_by_id(agent)).get(entry_id)
        if entry is None:
            raise NotFound("entry not found or not authorized")
        return await self._sign_jwt(
            JWTRequest(entry.spiffe_id, checked_audience(audience), entry.jwt_svid_ttl, entry.jwt_svid_include_jti)
        )

    async def mint_wit(self, spiffe_id: SpiffeID, public_key: bytes, ttl: int, algorithm: str) -> IssuedToken:
        """Sign a WIT-SVID for any workload's ID, bound to a key. For administrators only.

        Raises:
            Unimplemented: WIT-SVIDs are not switched on.
            InvalidArgument: the key is wrong, or the algorithm is not for it.
            Internal: it cannot be signed.
        """
        self.profiles.require_wit()
        confirmation = read_confirmation_key(public_key, algorithm, "invalid public key")
        return await self._sign_wit(WITRequest(spiffe_id, confirmation, ttl))

    async def batch_new_wit(self, agent: Agent, items: Sequence[NewWITSVID]) -> list[ItemResult[IssuedToken]]:
        """Sign a WIT-SVID for each item whose entry the agent is authorized for, in order.

        As upstream, they live as long as the entry's X.509-SVIDs: entries have no lifetime of their own for them.

        Raises:
            InvalidArgument: there is no item.
            ResourceExhausted: there are more than MAX_BATCH.
        """
        if not items:
            raise InvalidArgument("missing parameters")
        if len(items) > MAX_BATCH:
            raise ResourceExhausted(f"rate ({len(items)}) exceeds burst size ({MAX_BATCH})")
        authorized = await self._entries.authorized_by_id(agent)
        return [await self._new_wit(item, authorized) for item in items]

    async def _new_wit(self, item: NewWITSVID, authorized: Mapping[str, RegistrationEntry]) -> ItemResult[IssuedToken]:
        try:
            if not item.entry_id:
                raise InvalidArgument("missing entry ID")
            if not item.public_key:
                raise InvalidArgument("missing public key")
            entry = authorized.get(item.entry_id)
            if entry is None:
                raise NotFound("entry not found or not authorized")
            confirmation = read_confirmation_key(item.public_key, item.algorithm, "malformed public key")
            if not self.profiles.wit:
                # The call as a whole is answered, as upstream's is; none of its items can be signed.
                raise Internal("failed to sign WIT-SVID: WIT key is not available for signing")
            return ItemResult(await self._sign_wit(WITRequest(entry.spiffe_id, confirmation, entry.x509_svid_ttl)))
        except ServiceError as error:
            return ItemResult(error=error)

    async def _sign_jwt(self, request: JWTRequest) -> IssuedToken:
        try:
            return await self._signer.sign_jwt(request)
        except (Internal, Unavailable) as error:
            raise Internal(f"failed to sign JWT-SVID: {error.message}") from error

    async def _sign_wit(self, request: WITRequest) -> IssuedToken:
        try:
            return await self._signer.sign_wit(request)
        except (Internal, Unavailable) as error:
            raise Internal(f"failed to sign WIT-SVID: {error.message}") from error
