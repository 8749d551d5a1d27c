"""CredentialComposer "uniqueid": a workload's ID as x500UniqueIdentifier, for peers that know clients by subject."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from authsec_sdk.spiffe import SpiffeID
from icp_server.domain.composer import CredentialComposer, X509Attributes


class UniqueID(CredentialComposer):
    """Adds to each workload's subject half of SHA-256 over its SPIFFE ID, in hex, as SPIRE's composer does."""

    def workload_svid(self, spiffe_id: SpiffeID, attributes: X509Attributes) -> X509Attributes:
        """See `CredentialComposer`."""
        digest = hashlib.sha256(str(spiffe_id).encode()).hexdigest()[:32]
        # A PrintableString, which is what Go writes: databases and proxies compare the attribute's bytes.
        added = x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, digest, _ASN1Type.PrintableString)
        kept = [each for each in attributes.subject.rdns if NameOID.X500_UNIQUE_IDENTIFIER not in {a.oid for a in each}]
        return replace(attributes, subject=x509.Name([*kept, x509.RelativeDistinguishedName([added])]))
