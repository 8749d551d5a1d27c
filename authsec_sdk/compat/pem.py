"""Identities as PEM text, for interfaces that want text or files."""

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authsec_sdk.spiffe import X509SVID, X509Context

__all__ = ["bundle_pem", "certificate_pem", "key_pem"]


def certificate_pem(svid: X509SVID) -> str:
    """Return the chain, leaf first."""
    return "".join(one.public_bytes(Encoding.PEM).decode("ascii") for one in svid.certificates)


def key_pem(svid: X509SVID) -> str:
    """Return the private key, unencrypted. Whoever calls this has the key: keep it out of logs and frames."""
    return svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


def bundle_pem(context: X509Context) -> str:
    """Return the authorities of the SVID's own trust domain; those of others could vouch for its IDs in one file.

    Raises:
        NoIdentityError: there is no SVID.
        NoBundleForTrustDomainError: there is no bundle of its trust domain.
    """
    return context.bundles.require(context.svid.id.trust_domain).to_pem().decode("ascii")
