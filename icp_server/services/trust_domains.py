"""Federation relationships: which trust domains' bundles are followed, said through the API, and fetching one now."""

from __future__ import annotations

import logging

from authsec_sdk.errors import SpiffeError
from authsec_sdk.spiffe import TrustDomain
from icp_server.domain.errors import AlreadyExists, Internal, InvalidArgument, NotFound
from icp_server.domain.federation import FederationRelationship, RelationshipChanges
from icp_server.domain.results import Page, PageRequest
from icp_server.ports import BundleRefresher, Store

logger = logging.getLogger(__name__)


class TrustDomainService:
    """The TrustDomain API's use cases. Relationships of the configuration file are not among what it lists."""

    def __init__(self, store: Store, refresher: BundleRefresher) -> None:
        self._store = store
        self._refresher = refresher

    async def list(self, page: PageRequest) -> Page[FederationRelationship]:
        """Relationships in the order they were created, each with the bundle that is known.

        Raises:
            Internal: the page token is none of ours (upstream's code for it).
        """
        try:
            return await self._store.relationships.list(page)
        except Internal as error:
            raise Internal(f"failed to list federation relationships: {error.message}") from error

    async def get(self, trust_domain: TrustDomain) -> FederationRelationship:
        """One relationship.

        Raises:
            NotFound: there is none with this trust domain.
        """
        found = await self._store.relationships.get(trust_domain)
        if found is None:
            raise NotFound("federation relationship does not exist")
        return found

    async def create(self, new: FederationRelationship) -> FederationRelationship:
        """Write a relationship, and with it the bundle that it brings. It is followed once `changed` was called.

        Raises:
            InvalidArgument: it is with our own trust domain.
            Internal: there is one with this trust domain already (upstream's code for it).
        """
        if new.trust_domain == self._store.trust_domain:
            raise InvalidArgument("unable to create federation relationship for server trust domain")
        try:
            created = await self._store.relationships.create(new)
        except AlreadyExists as error:
            raise Internal(f"failed to create federation relationship: {error.message}") from error
        logger.info("Federation relationship created trust_domain_id=%s", new.trust_domain)
        await self._warn_of_unproven(created)
        return created

    async def update(self, changes: RelationshipChanges) -> FederationRelationship:
        """Change a relationship; what it is then.

        Raises:
            Internal: there is none with this trust domain (upstream's code for it).
        """
        try:
            updated = await self._store.relationships.update(changes)
        except NotFound as error:
            raise Internal(f"failed to update federation relationship: {error.message}") from error
        logger.info("Federation relationship updated trust_domain_id=%s", changes.trust_domain)
        await self._warn_of_unproven(updated)
        return updated

    async def delete(self, trust_domain: TrustDomain) -> None:
        """Remove a relationship. The bundle stays, and is followed no more.

        Raises:
            NotFound: there is none with this trust domain.
        """
        await self._store.relationships.delete(trust_domain)
        logger.info("Federation relationship deleted trust_domain_id=%s", trust_domain)

    def changed(self) -> None:
        """Follow the relationships as they are now."""
        self._refresher.reload()

    async def refresh(self, trust_domain: TrustDomain) -> None:
        """Fetch a bundle now.

        Raises:
            NotFound: there is no relationship with this trust domain, here or in the configuration file.
            Internal: the bundle cannot be had, or not be kept; what is known stays.
        """
        try:
            managed = await self._refresher.refresh(trust_domain)
        except SpiffeError as error:
            raise Internal(f"failed to refresh bundle: {error}") from error
        if not managed:
            raise NotFound(f'no relationship with trust domain "{trust_domain}"')

    async def _warn_of_unproven(self, relationship: FederationRelationship) -> None:
        server_id = relationship.endpoint.server_id
        if server_id is None or await self._store.bundles.get(server_id.trust_domain) is not None:
            return
        logger.warning(
            "bundle not found for the endpoint SPIFFE ID trust domain: nothing is fetched before it is set "
            "trust_domain_id=%s endpoint_spiffe_id=%s",
            relationship.trust_domain,
            server_id,
        )
