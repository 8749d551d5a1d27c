"""A token-signing authority with its key: a `Signer` over the key of its slot, whatever keeps that."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from authsec_sdk.jose.jwk import JWTPublicKey
from authsec_sdk.jose.keys import SignatureAlgorithm
from icp_server.ca.keys import PrivateKey, public_key_info, scheme_of, signing_with
from icp_server.ca.keys_remote import is_remote
from icp_server.domain.ca_slots import AuthorityRecord

_KEY_ID_LENGTH = 32
_KEY_ID_ALPHABET = string.ascii_letters + string.digits


def new_key_id() -> str:
    """32 random letters and digits, as SPIRE names its token keys (190 bits)."""
    return "".join(secrets.choice(_KEY_ID_ALPHABET) for _ in range(_KEY_ID_LENGTH))


@dataclass(frozen=True, slots=True)
class TokenKey:
    """What signs tokens: a record of the journal and the use of the key that belongs to it. A jose `Signer`."""

    record: AuthorityRecord
    algorithm: SignatureAlgorithm
    public_key: JWTPublicKey = field(repr=False)
    _sign: Callable[[bytes], bytes] = field(repr=False)
    remote: bool = False
    """Whether signing may wait for another machine, so that no event loop should."""

    @classmethod
    def of(cls, record: AuthorityRecord, key: PrivateKey | None) -> TokenKey | None:
        """Join a record with the key of its slot; None if that is not the record's key."""
        if key is None or record.data != public_key_info(key):
            return None
        scheme = scheme_of(key)
        sign = signing_with(key, scheme)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            return cls(record, "RS256", key.public_key(), sign, is_remote(key))
        size = (key.curve.key_size + 7) // 8
        algorithm: SignatureAlgorithm = "ES384" if isinstance(key.curve, ec.SECP384R1) else "ES256"
        return cls(record, algorithm, key.public_key(), lambda data: _of_full_size(sign(data), size), is_remote(key))

    @property
    def key_id(self) -> str:
        """The `kid` under which the bundle publishes it."""
        return self.record.authority_id

    def sign(self, data: bytes) -> bytes:
        """A signature as JWS carries it."""
        return self._sign(data)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("an authority holds a private key and is not pickled")


def _of_full_size(signature: bytes, size: int) -> bytes:
    """R and S one after the other (RFC 7518 section 3.4) of an ECDSA signature in DER."""
    r, s = decode_dss_signature(signature)
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")
