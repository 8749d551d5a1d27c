"""The trust domain's own bundle."""

from __future__ import annotations

from authsec_sdk.spiffe import TrustBundle
from icp_server.domain.errors import NotFound
from icp_server.ports import Store


class BundleService:
    """The Bundle API's use cases over one trust domain."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self) -> TrustBundle:
        """The own bundle.

        Raises:
            NotFound: no authority was ever prepared.
        """
        bundle = await self._store.bundles.get(self._store.trust_domain)
        if bundle is None:
            raise NotFound("bundle not found")
        return bundle
