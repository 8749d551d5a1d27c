"""Keys in a PKCS #11 token (an HSM, SoftHSM, a card): made there, used there, and never to leave it."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, NoReturn, cast

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11 import (
    Attribute,
    Key,
    KeyType,
    Mechanism,
    MechanismFlag,
    ObjectClass,
    PKCS11Error,
    PublicKey,
    Session,
    SignMixin,
)
from pkcs11.exceptions import FunctionNotSupported, RandomNoRNG
from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters

from icp_server.ca.keys import PrivateKey, scheme_of
from icp_server.ca.keys_pkcs11_session import TokenSession
from icp_server.ca.keys_remote import RemoteECKey, RemoteRSAKey
from icp_server.domain import key_type as ours
from icp_server.domain.errors import KeyStoreError, Unavailable
from icp_server.domain.key_settings import TokenKeys

logger = logging.getLogger(__name__)

_NEVER_OUT: Final = {
    Attribute.TOKEN: True,
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.SIGN: True,
    Attribute.DECRYPT: False,
    Attribute.UNWRAP: False,
    Attribute.DERIVE: False,
}
_CURVES: Final = {ours.KeyType.EC_P256: "secp256r1", ours.KeyType.EC_P384: "secp384r1"}
_RSA_BITS: Final = {ours.KeyType.RSA_2048: 2048, ours.KeyType.RSA_4096: 4096}
_COUNTER_SIZE: Final = 8


class TokenKeyManager:
    """A key manager over one token. A key's label is `icp-server/<identifier>/<name>`; its id counts its successors.

    What holds: keys are non-extractable and sensitive, which the token is asked about each time one is found or made.
    Not protected: whoever has the PIN can sign with the keys, as this server does.
    """

    def __init__(self, settings: TokenKeys, identifier: str) -> None:
        """Open the token.

        Raises:
            KeyStoreError: it is not there, or refuses the PIN, or the module cannot be loaded.
        """
        self._identifier = identifier
        self._session = TokenSession(settings)
        try:
            self._session.run(lambda session: session.token.label)
        except BaseException:
            self._session.close()
            raise

    def generate(self, name: str, key_type: ours.KeyType) -> PrivateKey:
        """Make a key in the token and destroy the one that had the name.

        Raises:
            KeyStoreError: the token cannot make it, or makes only such as can be taken out.
        """
        label = self._label(name)

        def work(session: Session) -> PrivateKey:
            before = _handles(session, label)
            key_id = (max(map(_count, before), default=0) + 1).to_bytes(_COUNTER_SIZE, "big")
            _make(session, key_type, label, key_id)
            key = self._found(session, label, key_id)
            _destroy(handle for handle in before if handle.id != key_id)
            return key

        return self._session.run(work)

    def get(self, name: str) -> PrivateKey | None:
        """The key of this name.

        Raises:
            KeyStoreError: the token does not answer, or the key can be taken out of it.
        """
        label = self._label(name)

        def work(session: Session) -> PrivateKey | None:
            newest = max(_handles(session, label, ObjectClass.PRIVATE_KEY), key=_count, default=None)
            return self._found(session, label, newest.id) if newest is not None else None

        return self._session.run(work)

    def close(self) -> None:
        """Log out and end the thread."""
        self._session.close()

    def _label(self, name: str) -> str:
        return f"icp-server/{self._identifier}/{name}"

    def _found(self, session: Session, label: str, key_id: bytes) -> PrivateKey:
        _check_kept(_handle(session, label, key_id, ObjectClass.PRIVATE_KEY), label)
        public = _public_key(_handle(session, label, key_id, ObjectClass.PUBLIC_KEY), label)
        use = _Use(self._session, label, key_id)
        if isinstance(public, rsa.RSAPublicKey):
            return RemoteRSAKey(public, use.rsa)
        return RemoteECKey(public, use.ecdsa(scheme_of(RemoteECKey(public, _unused)).hash.name))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key manager is not pickled")


class _Use:
    """Signs with one key, by the handle it has in the session of the hour."""

    def __init__(self, session: TokenSession, label: str, key_id: bytes) -> None:
        self._session = session
        self._label = label
        self._id = key_id
        self._handle: tuple[int, SignMixin] | None = None

    def ecdsa(self, hash_name: str) -> Callable[[bytes], bytes]:
        def sign(data: bytes) -> bytes:
            raw = self._sign(hashlib.new(hash_name, data).digest(), Mechanism.ECDSA)
            half = len(raw) // 2
            return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))

        return sign

    def rsa(self, data: bytes) -> bytes:
        return self._sign(data, Mechanism.SHA256_RSA_PKCS)

    def _sign(self, data: bytes, mechanism: Mechanism) -> bytes:
        def work(session: Session) -> bytes:
            if self._handle is None or self._handle[0] != self._session.generation:
                found = _handle(session, self._label, self._id, ObjectClass.PRIVATE_KEY)
                self._handle = (self._session.generation, cast("SignMixin", found))
            return self._handle[1].sign(data, mechanism=mechanism)

        try:
            return self._session.run(work)
        except KeyStoreError as error:
            logger.error("Cannot sign with the key of the PKCS #11 token label=%s error=%s", self._label, error)  # noqa: TRY400
            raise Unavailable("the key store cannot sign now") from error


def _probe(session: Session) -> None:
    """Fail here if the session is lost: a search that fails also fails to end, which python-pkcs11 prints to stderr."""
    with contextlib.suppress(RandomNoRNG, FunctionNotSupported):
        session.generate_random(8)


def _unused(_: bytes) -> NoReturn:
    raise AssertionError("asked for its scheme alone")


def _make(session: Session, key_type: ours.KeyType, label: str, key_id: bytes) -> None:
    common: dict[str, Any] = {
        "id": key_id,
        "label": label,
        "store": True,
        "capabilities": MechanismFlag.SIGN | MechanismFlag.VERIFY,
        "private_template": _NEVER_OUT,
    }
    if key_type in _CURVES:
        curve = {Attribute.EC_PARAMS: encode_named_curve_parameters(_CURVES[key_type])}
        session.create_domain_parameters(KeyType.EC, curve, local=True).generate_keypair(**common)
    else:
        session.generate_keypair(KeyType.RSA, _RSA_BITS[key_type], **common)


def _handles(session: Session, label: str, kind: ObjectClass | None = None) -> list[Key]:
    _probe(session)
    kinds = (kind,) if kind is not None else (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY)
    return [
        found
        for kind in kinds
        for found in session.get_objects({Attribute.CLASS: kind, Attribute.LABEL: label})
        if isinstance(found, Key)
    ]


def _handle(session: Session, label: str, key_id: bytes, kind: ObjectClass) -> Key:
    found = [key for key in _handles(session, label, kind) if key.id == key_id]
    if len(found) != 1:
        word = "half of a key" if not found else "key twice"
        raise KeyStoreError(f"the PKCS #11 token has {word}: label {label!r}, id {key_id.hex()}, {kind.name.lower()}")
    return found[0]


def _count(key: Key) -> int:
    return int.from_bytes(key.id[:_COUNTER_SIZE], "big")


def _check_kept(key: Key, label: str) -> None:
    if key[Attribute.EXTRACTABLE] or not key[Attribute.SENSITIVE]:
        raise KeyStoreError(
            f"the key {label!r} can be taken out of the PKCS #11 token, so this server does not use it: "
            "destroy it, or have the token make keys that are sensitive and not extractable"
        )


def _public_key(key: Key, label: str) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    if key.key_type == KeyType.RSA:
        exponent, modulus = (
            int.from_bytes(key[number], "big") for number in (Attribute.PUBLIC_EXPONENT, Attribute.MODULUS)
        )
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    if key.key_type == KeyType.EC:
        public = load_der_public_key(encode_ec_public_key(cast("PublicKey", key)))
        if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1 | ec.SECP384R1):
            return public
    raise KeyStoreError(f"the key {label!r} in the PKCS #11 token is of a kind this server does not sign with")


def _destroy(keys: Iterable[Key]) -> None:
    for key in keys:
        try:
            key.destroy()
        except PKCS11Error as error:  # it is superseded all the same, and the next successor tries again
            logger.warning("An old key stays in the PKCS #11 token error=%s", type(error).__name__)
