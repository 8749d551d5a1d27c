"""Proof of possession of an SSH host certificate's key: SPIRE's attestor `sshpop`, its messages and signatures.

Signatures have SSH's own form (RFC 4253 6.6, RFC 5656 3.1.2, RFC 8332, RFC 8709). Keys on security tokens have another
one and are not known here.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

from authsec_sdk.spire.attestation.messages import AttestationMessage, AttestationMessageError, combined, encode

NAME: Final = "sshpop"

HostKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_ED25519: Final = "ssh-ed25519"
_RSA: Final[dict[str, hashes.HashAlgorithm]] = {
    "rsa-sha2-512": hashes.SHA512(),
    "rsa-sha2-256": hashes.SHA256(),
    # What upstream's agents sign with. Half of what is signed is the server's nonce, so a collision is of no use.
    "ssh-rsa": hashes.SHA1(),  # noqa: S303
}
_ECDSA: Final[dict[str, tuple[str, hashes.HashAlgorithm]]] = {
    "secp256r1": ("ecdsa-sha2-nistp256", hashes.SHA256()),
    "secp384r1": ("ecdsa-sha2-nistp384", hashes.SHA384()),
    "secp521r1": ("ecdsa-sha2-nistp521", hashes.SHA512()),
}


def payload(certificate: bytes) -> bytes:
    """The first message: the certificate in SSH's wire format."""
    return encode({"Certificate": certificate})


def parse_payload(data: bytes) -> bytes:
    """Read the first message.

    Raises:
        AttestationMessageError: it is no such message, or holds no certificate.
    """
    certificate = AttestationMessage.parse(data).octets("certificate")
    if not certificate:
        raise AttestationMessageError("no certificate in response")
    return certificate


def parse_certificate(blob: bytes) -> SSHCertificate:
    """Read a certificate in wire format. Nothing in it is verified.

    Raises:
        AttestationMessageError: it is none, or a bare key, or of a kind that is not known here.
    """
    kind = blob[4 : 4 + int.from_bytes(blob[:4], "big")]
    if not kind or len(kind) > 64 or not kind.isascii() or b" " in kind or not kind.decode().isprintable():
        raise AttestationMessageError("failed to parse public key")
    try:
        identity = load_ssh_public_identity(kind + b" " + base64.b64encode(blob))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise AttestationMessageError(f"failed to parse public key: {error}") from error
    if not isinstance(identity, SSHCertificate):
        raise AttestationMessageError("pubkey in response is not a certificate")
    return identity


def fingerprint(blob: bytes) -> str:
    """What upstream names the node by: SHA-256 of the certificate in URL-safe base64."""
    return base64.urlsafe_b64encode(hashlib.sha256(blob).digest()).rstrip(b"=").decode("ascii")


def challenge(nonce: bytes) -> bytes:
    """Ask for a signature."""
    return encode({"Nonce": nonce})


def response(key: HostKey, challenge_: bytes, nonce: bytes) -> bytes:
    """Answer a challenge: sign its nonce together with our own.

    Raises:
        AttestationMessageError: it is no such challenge, or the key is of a curve SSH does not know.
    """
    text = _signed(AttestationMessage.parse(challenge_).octets("nonce"), nonce)
    if isinstance(key, rsa.RSAPrivateKey):
        form = "rsa-sha2-512"
        blob = key.sign(text, padding.PKCS1v15(), _RSA[form])
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        form, blob = _ED25519, key.sign(text)
    else:
        form, digest = _curve(key.curve)
        r, s = decode_dss_signature(key.sign(text, ec.ECDSA(digest)))
        blob = _integer(r) + _integer(s)
    return encode({"Nonce": nonce, "Signature": {"Format": form, "Blob": blob, "Rest": None}})


def verify(public_key: object, nonce: bytes, response_: bytes) -> None:
    """Hold a response against the nonce that was sent.

    Raises:
        AttestationMessageError: it is no such message, or not signed by this key.
    """
    message = AttestationMessage.parse(response_)
    text = _signed(nonce, message.octets("nonce"))
    signature = message.object("signature")
    if signature is None:
        raise AttestationMessageError("no signature in response")
    form, blob = signature.text("format"), signature.octets("blob")
    try:
        if isinstance(public_key, rsa.RSAPublicKey) and form in _RSA:
            public_key.verify(blob, text, padding.PKCS1v15(), _RSA[form])
        elif isinstance(public_key, ed25519.Ed25519PublicKey) and form == _ED25519:
            public_key.verify(blob, text)
        elif isinstance(public_key, ec.EllipticCurvePublicKey) and form == _curve(public_key.curve)[0]:
            public_key.verify(encode_dss_signature(*_integers(blob)), text, ec.ECDSA(_curve(public_key.curve)[1]))
        else:
            raise AttestationMessageError(f"signature type {form[:40]!r} for a key of another type")
    except (InvalidSignature, UnsupportedAlgorithm):
        raise AttestationMessageError("the signature is not the certificate's") from None


def _signed(server: bytes, agent: bytes) -> bytes:
    return hashlib.sha256(combined(server, agent)).digest()


def _curve(curve: ec.EllipticCurve) -> tuple[str, hashes.HashAlgorithm]:
    if curve.name not in _ECDSA:
        raise AttestationMessageError(f"SSH knows no keys on {curve.name}")
    return _ECDSA[curve.name]


def _integer(number: int) -> bytes:
    data = number.to_bytes(number.bit_length() // 8 + 1, "big")  # with room for the sign
    return len(data).to_bytes(4, "big") + data


def _integers(blob: bytes) -> tuple[int, int]:
    numbers = []
    rest = blob
    for _ in range(2):
        length = int.from_bytes(rest[:4], "big")
        data, rest = rest[4 : 4 + length], rest[4 + length :]
        if len(data) != length or not 0 < length <= 67 or data[0] & 0x80:
            raise AttestationMessageError("the signature is malformed")
        numbers.append(int.from_bytes(data, "big"))
    if rest:
        raise AttestationMessageError("the signature is malformed")
    return numbers[0], numbers[1]
