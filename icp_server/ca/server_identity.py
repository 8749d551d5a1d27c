"""The server's own SVID: issued by its own authority, renewed at half its life, published to the TLS listener."""

from __future__ import annotations

import logging

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from authsec_sdk.spiffe import X509SVID, BundleSet, X509Context, X509ContextHolder
from authsec_sdk.spire.renewal import should_renew
from authsec_sdk.spire.reserved_ids import server_id
from icp_server.ca.signer import SVIDSigner
from icp_server.domain.errors import Unavailable
from icp_server.domain.svid_template import WORKLOAD_SUBJECT
from icp_server.ports import Clock, Store

logger = logging.getLogger(__name__)


class ServerIdentity:
    """Keeps `holder` on a fresh SVID and the newest own bundle. The key is a new one each time and stays in memory."""

    def __init__(self, store: Store, signer: SVIDSigner, clock: Clock) -> None:
        self._store = store
        self._signer = signer
        self._clock = clock
        self._svid: X509SVID | None = None
        self.holder = X509ContextHolder()

    async def refresh(self) -> bool:
        """Renew the SVID if half its life is over, read the bundle, and publish if either is new; whether it was.

        Raises:
            Unavailable: there is no active authority, or no bundle.
        """
        bundle = await self._store.bundles.get(self._store.trust_domain)
        if bundle is None:
            raise Unavailable("the trust domain has no bundle yet")
        svid = self._svid
        if svid is None or should_renew(svid.not_before, svid.not_after, self._clock()):
            svid = self._issue()
            logger.info("Server SVID rotated serial_number=%s expires_at=%s", svid.leaf.serial_number, svid.not_after)
        context = X509Context((svid,), BundleSet.of(bundle.x509_bundle()))
        if svid is self._svid and context == self.holder.x509_context:
            return False
        self._svid = svid
        self.holder.publish(context)
        return True

    def _issue(self) -> X509SVID:
        key = ec.generate_private_key(ec.SECP256R1())
        request = x509.CertificateSigningRequestBuilder().subject_name(WORKLOAD_SUBJECT).sign(key, hashes.SHA256())
        issued = self._signer.sign_server(request.public_bytes(Encoding.DER), server_id(self._store.trust_domain))
        return X509SVID(tuple(x509.load_der_x509_certificate(link) for link in issued.chain), key)
