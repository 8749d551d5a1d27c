"""Proof of possession of an X.509 certificate's key: SPIRE's attestor `x509pop`, its messages and signatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from authsec_sdk.spire.attestation.messages import AttestationMessage, AttestationMessageError, combined, encode

NAME: Final = "x509pop"
_RSA: Final = "rsa_signature"
_ECDSA: Final = "ecdsa_signature"
_LONGEST_INTEGER: Final = 66  # bytes of a P-521 coordinate

ProvingKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def payload(chain: Sequence[bytes]) -> bytes:
    """The first message: DER certificates, leaf first."""
    return encode({"certificates": list(chain)})


def parse_payload(data: bytes, *, most: int) -> tuple[bytes, ...]:
    """Read the first message; one certificate more than `most` shows that there are too many.

    Raises:
        AttestationMessageError: it is no such message.
    """
    return AttestationMessage.parse(data).octets_list("certificates", most=most)


def challenge(public_key: object, nonce: bytes) -> bytes:
    """Ask for a signature with the key.

    Raises:
        AttestationMessageError: the key is neither RSA nor ECDSA.
    """
    kind = _kind(public_key)
    return encode({name: {"nonce": nonce} if name == kind else None for name in (_RSA, _ECDSA)})


def response(key: ProvingKey, challenge_: bytes, nonce: bytes) -> bytes:
    """Answer a challenge: sign its nonce together with our own.

    Raises:
        AttestationMessageError: it is no such challenge, or one for another kind of key.
    """
    message = AttestationMessage.parse(challenge_)
    if isinstance(key, rsa.RSAPrivateKey):
        asked = message.object(_RSA)
        if asked is None:
            raise AttestationMessageError("expecting RSA challenge")
        text = combined(asked.octets("nonce"), nonce)
        signature = key.sign(text, _pss(padding.PSS.MAX_LENGTH), SHA256())
        return encode({_RSA: {"nonce": nonce, "signature": signature}, _ECDSA: None})
    asked = message.object(_ECDSA)
    if asked is None:
        raise AttestationMessageError("expecting ECDSA challenge")
    r, s = decode_dss_signature(key.sign(combined(asked.octets("nonce"), nonce), ec.ECDSA(SHA256())))
    return encode({_RSA: None, _ECDSA: {"nonce": nonce, "r": _octets(r), "s": _octets(s)}})


def verify(public_key: object, nonce: bytes, response_: bytes) -> None:
    """Hold a response against the nonce that was sent.

    Raises:
        AttestationMessageError: it is no such message, for another kind of key, or not signed by this one.
    """
    kind = _kind(public_key)
    answer = AttestationMessage.parse(response_).object(kind)
    if answer is None:
        raise AttestationMessageError(f"expecting {_WORDS[kind]} response")
    text = combined(nonce, answer.octets("nonce"))
    try:
        if isinstance(public_key, rsa.RSAPublicKey):
            public_key.verify(answer.octets("signature"), text, _pss(padding.PSS.AUTO), SHA256())
        elif isinstance(public_key, ec.EllipticCurvePublicKey):
            public_key.verify(_der(answer.octets("r"), answer.octets("s")), text, ec.ECDSA(SHA256()))
    except InvalidSignature:
        raise AttestationMessageError(f"{_WORDS[kind]} signature verify failed") from None


_WORDS: Final = {_RSA: "RSA", _ECDSA: "ECDSA"}


def _kind(public_key: object) -> str:
    if isinstance(public_key, rsa.RSAPublicKey):
        return _RSA
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return _ECDSA
    raise AttestationMessageError(f"unsupported public key type {type(public_key).__name__}")


def _pss(salt_length: object) -> padding.PSS:
    return padding.PSS(padding.MGF1(SHA256()), salt_length)  # type: ignore[arg-type]  # its marker types are private


def _octets(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _der(r: bytes, s: bytes) -> bytes:
    if len(r) > _LONGEST_INTEGER or len(s) > _LONGEST_INTEGER:
        raise AttestationMessageError("ECDSA signature verify failed")
    return encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
