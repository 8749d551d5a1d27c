"""Bundles: the trust domain's own one, and those of the trust domains it federates with."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from authsec_sdk.errors import SpiffeError
from authsec_sdk.jose.jws import MAX_KEY_ID
from authsec_sdk.spiffe import TrustBundle, TrustDomain
from authsec_sdk.spire.tainted import PublishedBundle
from icp_server.domain.authorities import AuthorityKind
from icp_server.domain.confirmation import read_public_key
from icp_server.domain.errors import FailedPrecondition, Internal, InvalidArgument, NotFound, Unavailable, Unimplemented
from icp_server.domain.federation import BundleFields, DeleteMode
from icp_server.domain.results import Page, PageRequest
from icp_server.ports import Store
from icp_server.services.tokens import DEFAULT_PROFILES, TokenProfiles

logger = logging.getLogger(__name__)


async def _nobody() -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class TokenAuthority:
    """A token authority as somebody else published it: a SubjectPublicKeyInfo (DER), its end in Unix seconds or 0."""

    key_id: str
    public_key: bytes
    expires_at: int


PublishUpstream: TypeAlias = Callable[[AuthorityKind, str, bytes, int], Awaitable[PublishedBundle | None]]
"""Publishes a token authority with the server above: its kind, key ID, key (DER) and end in Unix seconds."""


class BundleService:
    """The Bundle API's use cases over one trust domain.

    ``own_changed`` is awaited after authorities were added to the own bundle by hand.
    """

    def __init__(
        self,
        store: Store,
        profiles: TokenProfiles = DEFAULT_PROFILES,
        *,
        own_changed: Callable[[], Awaitable[None]] = _nobody,
        publish_upstream: PublishUpstream | None = None,
    ) -> None:
        self._publish_upstream = publish_upstream
        self._store = store
        self._profiles = profiles
        self._own_changed = own_changed

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
            Unavailable: this server stands below another, which cannot be told of it now.
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
        await self._tell_upstream(kind, key)
        await self._store.authorities.append_key(kind, key.key_id, key.public_key, key.expires_at)
        return await self.published()

    async def _tell_upstream(self, kind: AuthorityKind, key: TokenAuthority) -> None:
        """What a server below ours signs must verify above us as well, so it goes all the way up before it counts."""
        if self._publish_upstream is None:
            return
        try:
            published = await self._publish_upstream(kind, key.key_id, key.public_key, key.expires_at)
        except SpiffeError as error:
            logger.warning("Could not publish upstream kind=%s key_id=%s error=%s", kind.words, key.key_id, error)
            raise Unavailable(f"failed to publish the {kind.words} authority upstream") from error
        if published is not None:
            await self._store.bundles.append(published)

    async def append(self, authorities: PublishedBundle) -> PublishedBundle:
        """Add authorities to the own bundle; what it is then. Known ones change nothing.

        Raises:
            InvalidArgument: there are none, or a key ID stands for another authority.
            Unimplemented: there is a WIT authority, and they are not switched on.
        """
        bundle = authorities.bundle
        if bundle.wit_authorities:
            self.require(AuthorityKind.WIT)
        if not (bundle.x509_authorities or bundle.jwt_authorities or bundle.wit_authorities):
            raise InvalidArgument("no authorities to append")
        appended = await self._store.bundles.append(authorities)
        await self._own_changed()
        logger.info(
            "Authorities appended to the bundle x509=%d jwt=%d wit=%d",
            len(bundle.x509_authorities),
            len(bundle.jwt_authorities),
            len(bundle.wit_authorities),
        )
        return appended

    async def count(self) -> int:
        """How many bundles there are, the own one included."""
        return await self._store.bundles.count()

    async def list_federated(self, page: PageRequest) -> Page[PublishedBundle]:
        """The bundles of other trust domains. The own one counts for a page's size, and is left out of it.

        Raises:
            Internal: the page token is none of ours (upstream's code for it).
        """
        try:
            found = await self._store.bundles.list(page)
        except Internal as error:
            raise Internal(f"failed to list bundles: {error.message}") from error
        own = self._store.trust_domain
        return Page(tuple(each for each in found.items if each.bundle.trust_domain != own), found.next_token)

    async def get_federated(self, trust_domain: TrustDomain) -> PublishedBundle:
        """The bundle of another trust domain.

        Raises:
            InvalidArgument: it is our own trust domain.
            NotFound: there is none.
        """
        self._refuse_own(trust_domain, "getting a federated bundle for the server's own trust domain is not allowed")
        found = await self._store.bundles.published(trust_domain)
        if found is None:
            raise NotFound("bundle not found")
        return found

    async def create_federated(self, bundle: PublishedBundle) -> PublishedBundle:
        """Keep the bundle of another trust domain.

        Raises:
            InvalidArgument: it is our own trust domain, or a key stands in it under two key IDs.
            AlreadyExists: there is one.
        """
        trust_domain = bundle.bundle.trust_domain
        self._refuse_own(trust_domain, "creating a federated bundle for the server's own trust domain is not allowed")
        created = await self._store.bundles.create(bundle)
        logger.info("Federated bundle created trust_domain_id=%s", trust_domain)
        return created

    async def update_federated(self, bundle: PublishedBundle, fields: BundleFields) -> PublishedBundle:
        """Replace parts of the bundle of another trust domain; what it is then.

        Raises:
            InvalidArgument: it is our own trust domain, or a key stands in it under two key IDs.
            NotFound: there is none.
        """
        trust_domain = bundle.bundle.trust_domain
        self._refuse_own(trust_domain, "updating a federated bundle for the server's own trust domain is not allowed")
        updated = await self._store.bundles.update(bundle, fields)
        logger.info("Federated bundle updated trust_domain_id=%s", trust_domain)
        return updated

    async def set_federated(self, bundle: PublishedBundle) -> PublishedBundle:
        """Keep the bundle of another trust domain, in place of the one there may be.

        Raises:
            InvalidArgument: it is our own trust domain, or a key stands in it under two key IDs.
        """
        trust_domain = bundle.bundle.trust_domain
        self._refuse_own(trust_domain, "setting a federated bundle for the server's own trust domain is not allowed")
        kept = await self._store.bundles.set(bundle)
        logger.info("Bundle set successfully trust_domain_id=%s", trust_domain)
        return kept

    async def delete_federated(self, trust_domain: TrustDomain, mode: DeleteMode) -> None:
        """Delete the bundle of another trust domain.

        Raises:
            InvalidArgument: it is our own trust domain.
            NotFound: there is none.
            FailedPrecondition: entries federate with it, and the mode is to refuse then.
        """
        self._refuse_own(trust_domain, "removing the bundle for the server trust domain is not allowed")
        try:
            await self._store.bundles.delete(trust_domain, mode)
        except FailedPrecondition as error:
            raise FailedPrecondition(f"failed to delete federated bundle: {error.message}") from error
        logger.info("Federated bundle deleted trust_domain_id=%s mode=%s", trust_domain, mode.name)

    def _refuse_own(self, trust_domain: TrustDomain, text: str) -> None:
        if trust_domain == self._store.trust_domain:
            raise InvalidArgument(text)
