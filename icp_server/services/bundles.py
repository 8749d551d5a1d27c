"""The trust domain's own bundle."""

from __future__ import annotations

from dataclasses import dataclass

from authsec_sdk.jose.jws import MAX_KEY_ID
from authsec_sdk.spiffe import TrustBundle
from authsec_sdk.spire.tainted import PublishedBundle
from icp_server.domain.authorities import AuthorityKind
from icp_server.domain.confirmation import read_public_key
from icp_server.domain.errors import InvalidArgument, NotFound, Unimplemented
from icp_server.ports import Store
from icp_server.services.tokens import DEFAULT_PROFILES, TokenProfiles


@dataclass(frozen=True, slots=True)
class TokenAuthority:
    """A token authority as somebody else published it: a SubjectPublicKeyInfo (DER), its end in Unix seconds or 0."""

    key_id: str
    public_key: bytes
    expires_at: int


class BundleService:
    """The Bundle API's use cases over one trust domain."""

    def __init__(self, store: Store, profiles: TokenProfiles = DEFAULT_PROFILES) -> None:
        self._store = store
        self._profiles = profiles

    async def get(self) -> TrustBundle:
        """The own bundle.

        Raises:
            NotFound: no authority was ever prepared.
        """
        return (await self.published()).bundle

    async def published(self) -> PublishedBundle:
        """The own bundle with what is tainted and when keys end.

        Raises:
            NotFound: no authority was ever prepared.
        """
        published = await self._store.bundles.published(self._store.trust_domain)
        if published is None:
            raise NotFound("bundle not found")
        return published

    def require(self, kind: AuthorityKind) -> None:
        """Return if authorities of this kind may be published here.

        Raises:
            Unimplemented: WIT authorities are not switched on.
        """
        if kind is AuthorityKind.WIT and not self._profiles.wit:
            raise Unimplemented("WIT-SVID functionality is not yet implemented")

    async def publish_key(self, kind: AuthorityKind, key: TokenAuthority) -> PublishedBundle:
        """Add a downstream server's token authority to the own bundle; what it is then. A known one changes nothing.

        Raises:
            Unimplemented: WIT authorities are not switched on.
            InvalidArgument: it has no key ID, is no key for signatures, ended before it began, or its key ID stands
                for another authority.
        """
        self.require(kind)
        wrong = f"invalid {kind.words} authority"
        read_public_key(key.public_key, wrong)
        if not key.key_id:
            raise InvalidArgument(f"{wrong}: missing key ID")
        if len(key.key_id) > MAX_KEY_ID:
            raise InvalidArgument(f"{wrong}: the key ID has more than {MAX_KEY_ID} characters")
        if key.expires_at < 0:
            raise InvalidArgument(f"{wrong}: it ended before 1970")
        await self._store.authorities.append_key(kind, key.key_id, key.public_key, key.expires_at)
        return await self.published()
