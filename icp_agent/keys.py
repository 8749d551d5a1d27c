"""Keys of this node and its workloads: made here, put into signing requests by their public half, joined with SVIDs."""

from enum import StrEnum
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from authsec_sdk.errors import InvalidX509SVIDError
from authsec_sdk.spiffe import X509SVID, SpiffeID
from authsec_sdk.spire.svids import IssuedX509SVID

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_SUBJECT: Final = x509.Name(
    [x509.NameAttribute(NameOID.COUNTRY_NAME, "US"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SPIRE")]
)


class KeyType(StrEnum):
    """What a workload's key can be, by the names of `workload_x509_svid_key_type`."""

    EC_P256 = "ec-p256"
    EC_P384 = "ec-p384"
    RSA_2048 = "rsa-2048"


def generate_key(key_type: KeyType = KeyType.EC_P256) -> PrivateKey:
    """A new key. RSA takes its time: not for the event loop."""
    if key_type is KeyType.RSA_2048:
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP384R1() if key_type is KeyType.EC_P384 else ec.SECP256R1())


def signing_request(key: PrivateKey, spiffe_id: SpiffeID | None = None) -> bytes:
    """A PKCS#10 request (DER) for the key; the ID is a courtesy, the server takes it from the entry."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_SUBJECT)
    if spiffe_id is not None:
        name = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(spiffe_id))])
        builder = builder.add_extension(name, critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


def svid_of(issued: IssuedX509SVID, key: PrivateKey, *, wanted: SpiffeID | None, hint: str = "") -> X509SVID:
    """The SVID that a chain from the server makes with our key.

    Raises:
        InvalidX509SVIDError: a rule of the standard is broken, the key is not the leaf's, or the leaf does not name
            the ID the server says or the one wanted.
    """
    svid = X509SVID(issued.certificates, key, hint)
    if svid.id != issued.id or (wanted is not None and svid.id != wanted):
        raise InvalidX509SVIDError(f"the server sent an SVID of {svid.id} where one of {wanted or issued.id} is due")
    return svid
