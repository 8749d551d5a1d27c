"""The server's own SVID: issued by its own authority, renewed at half its life, published to the TLS listener."""

from __future__ import annotations

import asyncio
import logging

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from authsec_sdk.spiffe import X509SVID, BundleSet, X509Bundle, X509Context, X509ContextHolder
from authsec_sdk.spire.renewal import should_renew
from authsec_sdk.spire.reserved_ids import server_id
from authsec_sdk.spire.tainted import PublishedBundle
from icp_server.ca.signer import SVIDSigner
from icp_server.domain.ca_slots import AuthorityRecord
from icp_server.domain.errors import Unavailable
from icp_server.domain.svid_template import WORKLOAD_SUBJECT
from icp_server.domain.upstream_root import signed_by, tainted_roots
from icp_server.ports import Clock, Store

logger = logging.getLogger(__name__)


class ServerIdentity:
    """Keeps `holder` on a fresh SVID and the newest own bundle. The key is a new one each time and stays in memory."""

    def __init__(self, store: Store, signer: SVIDSigner, clock: Clock) -> None:
        self._store = store
        self._signer = signer
        self._clock = clock
        self._svid: X509SVID | None = None
        self._signed_by: AuthorityRecord | None = None
        self._lock = asyncio.Lock()
        self.holder = X509ContextHolder()

    async def refresh(self) -> bool:
        """Renew the SVID if it is due, read the bundle, and publish if either is new; whether it was.

        An SVID is due when half its life is over, or when the authority that signed it is tainted or gone: who drops
        that authority could reach this server no more. Below an upstream authority: when the root above is tainted and
        another authority signs by now.

        Raises:
            Unavailable: there is no active authority, or no bundle.
        """
        async with self._lock:
            published = await self._store.bundles.published(self._store.trust_domain)
            if published is None:
                raise Unavailable("the trust domain has no bundle yet")
            svid = self._svid
            if svid is None or self._is_due(svid, published):
                svid = await asyncio.to_thread(self._issue)  # the authority's key may be elsewhere
                logger.info(
                    "Server SVID rotated serial_number=%s expires_at=%s", svid.leaf.serial_number, svid.not_after
                )
            context = X509Context((svid,), BundleSet.of(published.bundle.x509_bundle()))
            if svid is self._svid and context == self.holder.x509_context:
                return False
            self._svid = svid
            self.holder.publish(context)
            return True

    def _is_due(self, svid: X509SVID, published: PublishedBundle) -> bool:
        if should_renew(svid.not_before, svid.not_after, self._clock()):
            return True
        if self._signed_by is None:
            return False
        if self._signed_by.upstream_chain:
            return self._signed_by != self._signer.authority.record and signed_by(
                self._signed_by, tainted_roots(published)
            )
        root = self._signed_by.data
        tainted = X509Bundle(self._store.trust_domain, published.tainted.x509_authorities)
        return tainted.contains_der(root) or not published.bundle.x509_bundle().contains_der(root)

    def _issue(self) -> X509SVID:
        key = ec.generate_private_key(ec.SECP256R1())
        request = x509.CertificateSigningRequestBuilder().subject_name(WORKLOAD_SUBJECT).sign(key, hashes.SHA256())
        self._signed_by = self._signer.authority.record
        issued = self._signer.sign_server(request.public_bytes(Encoding.DER), server_id(self._store.trust_domain))
        return X509SVID(tuple(x509.load_der_x509_certificate(link) for link in issued.chain), key)
