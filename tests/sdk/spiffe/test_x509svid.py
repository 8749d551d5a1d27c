"""`X509SVID`: chain, key, and where the key must never show."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import traceback
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.errors import InvalidBundleError, InvalidX509SVIDError
from authsec_sdk.spiffe import X509SVID, SpiffeID, TrustDomain, X509Bundle


def test_parse_der_reads_the_workload_api_form(mint: Any, root: Any) -> None:
    intermediate = mint.intermediate(root)
    leaf = mint.leaf(intermediate)
    svid = X509SVID.parse_der(leaf.der + intermediate.der, leaf.key_der, hint="internal")
    assert svid.id == SpiffeID.parse("spiffe://example.org/a")
    assert svid.hint == "internal"
    assert svid.leaf == leaf.certificate
    assert svid.certificates == (leaf.certificate, intermediate.certificate)
    assert svid.chain_der() == (leaf.der, intermediate.der)
    assert svid.key_der() == leaf.key_der
    assert svid.not_before == mint.now - timedelta(hours=1)
    assert svid.not_after == mint.now + timedelta(hours=1)
    assert svid.not_after.utcoffset() == timedelta(0)


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("kind", ["p256", "rsa"])
def test_parse_pem_reads_every_usual_key_form(mint: Any, root: Any, kind: str, form: PrivateFormat) -> None:
    leaf = mint.leaf(root, key=kind)
    key = leaf.key.private_bytes(Encoding.PEM, form, NoEncryption())
    assert X509SVID.parse_pem(leaf.pem, key) == X509SVID.parse_der(leaf.der, leaf.key_der)


@pytest.mark.parametrize("key_first", [False, True])
def test_parse_pem_takes_one_text_with_both(mint: Any, root: Any, key_first: bool) -> None:
    leaf = mint.leaf(root)
    both = leaf.key_pem + leaf.pem if key_first else b"Some words\n" + leaf.pem + root.pem + leaf.key_pem
    svid = X509SVID.parse_pem(both, both)
    assert svid.leaf == leaf.certificate
    assert svid.key_der() == leaf.key_der


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa", "ed25519"])
def test_every_kind_of_key_signs_and_is_signed_for(mint: Any, kind: str) -> None:
    authority = mint.root(key=kind)
    leaf = mint.leaf(authority, key=kind)
    svid = X509SVID.parse_der(leaf.der + authority.der, leaf.key_der)
    assert svid.private_key.public_key() == leaf.certificate.public_key()


def test_an_svid_can_be_made_of_objects_and_is_checked_all_the_same(mint: Any, root: Any) -> None:
    leaf, other = mint.leaf(root), mint.leaf(root)
    assert X509SVID([leaf.certificate], leaf.key) == X509SVID.parse_der(leaf.der, leaf.key_der)  # type: ignore[arg-type]
    with pytest.raises(InvalidX509SVIDError, match="does not belong"):
        X509SVID((leaf.certificate,), other.key)
    with pytest.raises(InvalidX509SVIDError, match="does not belong"):
        dataclasses.replace(X509SVID((leaf.certificate,), leaf.key), private_key=other.key)


def test_an_svid_is_a_frozen_value(mint: Any, root: Any) -> None:
    leaf, other = mint.leaf(root), mint.leaf(root)
    svid = X509SVID.parse_der(leaf.der, leaf.key_der)
    same = X509SVID.parse_der(leaf.der, leaf.key_der)
    assert svid == same
    assert hash(svid) == hash(same)
    assert svid != X509SVID.parse_der(leaf.der, leaf.key_der, hint="x")
    assert svid != X509SVID.parse_der(other.der, other.key_der)
    for name in ("id", "private_key", "certificates", "anything"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(svid, name, None)


def test_an_expired_svid_is_read_and_says_so(mint: Any, root: Any) -> None:
    leaf = mint.leaf(root, not_before_hours=-2, not_after_hours=-1)
    svid = X509SVID.parse_der(leaf.der, leaf.key_der)
    assert svid.is_expired(mint.now)
    assert not svid.is_expired(svid.not_after)  # RFC 5280 section 4.1.2.5: the last moment is part of the time
    assert svid.is_expired(svid.not_after + timedelta(microseconds=1))
    with pytest.raises(TypeError):
        svid.is_expired(mint.now.replace(tzinfo=None))


# --- chains ----------------------------------------------------------------------------------------------------------


def test_an_empty_chain_is_refused(mint: Any, root: Any) -> None:
    key = mint.leaf(root).key_der
    with pytest.raises(InvalidX509SVIDError, match="empty"):
        X509SVID.parse_der(b"", key)
    with pytest.raises(InvalidX509SVIDError, match="empty"):
        X509SVID.parse_pem(b" \n", mint.leaf(root).key_pem)


def test_the_chain_must_be_in_order(mint: Any, root: Any) -> None:
    first = mint.intermediate(root, subject="first")
    second = mint.intermediate(first, subject="second")
    leaf = mint.leaf(second)
    X509SVID.parse_der(leaf.der + second.der + first.der + root.der, leaf.key_der)
    for chain in (
        leaf.der + first.der + second.der,
        leaf.der + first.der,
        leaf.der + second.der + root.der,
        leaf.der + second.der + second.der,
        leaf.der + second.der + first.der + root.der + first.der,
    ):
        with pytest.raises(InvalidX509SVIDError, match="is not issued by"):
            X509SVID.parse_der(chain, leaf.key_der)
    with pytest.raises(InvalidX509SVIDError):
        X509SVID.parse_der(second.der + leaf.der, leaf.key_der)


def test_an_issuer_of_the_right_name_and_the_wrong_key_is_refused(mint: Any, root: Any) -> None:
    leaf = mint.leaf(root)
    look_alike = mint.root()
    assert look_alike.certificate.subject == root.certificate.subject
    with pytest.raises(InvalidX509SVIDError, match=r"certificate 1 in the chain .* not issued by certificate 2"):
        X509SVID.parse_der(leaf.der + look_alike.der, leaf.key_der)


def test_a_leaf_cannot_stand_in_for_an_intermediate(mint: Any, root: Any) -> None:
    leaf = mint.leaf(root)
    forged = mint.leaf(leaf, uri="spiffe://example.org/admin")
    with pytest.raises(InvalidX509SVIDError, match="not a CA"):
        X509SVID.parse_der(forged.der + leaf.der, forged.key_der)


def test_a_root_without_key_usage_may_be_sent_along(mint: Any) -> None:
    plain_root = mint.root(key_usage=None)
    leaf = mint.leaf(plain_root)
    assert len(X509SVID.parse_der(leaf.der + plain_root.der, leaf.key_der).certificates) == 2


def test_a_chain_has_at_most_16_certificates(mint: Any, root: Any) -> None:
    signers = [root]
    for number in range(15):
        signers.append(mint.intermediate(signers[-1], subject=f"signer {number}"))
    leaf = mint.leaf(signers[-1])
    chain = b"".join(signer.der for signer in reversed(signers))
    longest = leaf.der + b"".join(signer.der for signer in reversed(signers[1:]))
    assert len(X509SVID.parse_der(longest, leaf.key_der).certificates) == 16
    with pytest.raises(InvalidX509SVIDError, match="more than 16"):
        X509SVID.parse_der(leaf.der + chain, leaf.key_der)


# --- bytes from outside ----------------------------------------------------------------------------------------------


def der_cases(leaf: bytes) -> dict[str, bytes]:
    return {
        "one byte short": leaf[:-1],
        "half": leaf[: len(leaf) // 2],
        "one byte": leaf[:1],
        "trailing zero": leaf + b"\0",
        "trailing garbage": leaf + b"garbage",
        "a PEM text": b"-----BEGIN CERTIFICATE-----\n",
        "another tag": b"\x31" + leaf[1:],
        "indefinite length": b"\x30\x80" + leaf[4:] + b"\0\0",
        "length of nine bytes": b"\x30\x89" + b"\xff" * 9,
        "length of four gigabytes": b"\x30\x84\xff\xff\xff\xff" + leaf[4:],
        "long form of a short length": b"\x30\x81\x05abcde",
        "length with leading zero": b"\x30\x83\x00" + leaf[2:],
        "length cut off": b"\x30\x82\x01",
        "empty sequence": b"\x30\x00",
        "zeros": b"\0" * 100,
    }


@pytest.mark.parametrize("case", list(der_cases(b"\x30\x82\x01\x02rest")))
def test_chains_which_are_not_der_are_refused(case: str, mint: Any, root: Any) -> None:
    leaf = mint.leaf(root)
    with pytest.raises(InvalidX509SVIDError):
        X509SVID.parse_der(der_cases(leaf.der)[case], leaf.key_der)


@pytest.mark.parametrize(
    "text",
    [
        b"not PEM",
        b"-----BEGIN CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n" * 100_000,
        b"-----BEGIN TRUSTED CERTIFICATE-----\nAAAA\n-----END TRUSTED CERTIFICATE-----\n",
    ],
)
def test_chains_which_are_not_pem_are_refused(text: bytes, mint: Any, root: Any) -> None:
    with pytest.raises(InvalidX509SVIDError):
        X509SVID.parse_pem(text, mint.leaf(root).key_pem)


def test_a_certificate_that_is_cut_in_pem_is_refused(mint: Any, root: Any) -> None:
    leaf = mint.leaf(root)
    with pytest.raises(InvalidX509SVIDError):
        X509SVID.parse_pem(leaf.pem[:-40], leaf.key_pem)
    with pytest.raises(InvalidX509SVIDError):
        X509SVID.parse_pem(leaf.pem + root.pem[:200], leaf.key_pem)


def other_keys() -> dict[str, Any]:
    return {
        "dsa": dsa.generate_private_key(2048),
        "x25519": x25519.X25519PrivateKey.generate(),
        "ed448": ed448.Ed448PrivateKey.generate(),
    }


@pytest.mark.parametrize("kind", ["dsa", "x25519", "ed448"])
def test_keys_of_other_kinds_are_refused(kind: str, mint: Any, root: Any) -> None:
    leaf = mint.leaf(root)
    key = other_keys()[kind].private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(InvalidX509SVIDError, match="neither RSA"):
        X509SVID.parse_der(leaf.der, key)


def test_encrypted_keys_are_refused(mint: Any, root: Any) -> None:
    leaf = mint.leaf(root)
    for encoding, parse, chain in (
        (Encoding.DER, X509SVID.parse_der, leaf.der),
        (Encoding.PEM, X509SVID.parse_pem, leaf.pem),
    ):
        key = leaf.key.private_bytes(encoding, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
        with pytest.raises(InvalidX509SVIDError, match="encrypted"):
            parse(chain, key)


def test_what_is_not_bytes_is_refused(mint: Any, root: Any) -> None:
    leaf = mint.leaf(root)
    for key in (None, "text", 5):
        with pytest.raises(InvalidX509SVIDError):
            X509SVID.parse_der(leaf.der, key)  # type: ignore[arg-type]


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    for parse in (X509SVID.parse_der, X509SVID.parse_pem):
        with pytest.raises(InvalidX509SVIDError):
            parse(data, data)


@given(data=st.data())
def test_no_damage_to_a_good_chain_raises_anything_else(data: st.DataObject, mint: Any, root: Any) -> None:
    leaf = LEAF.setdefault("leaf", mint.leaf(root))
    damaged = bytearray(leaf.der)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        svid = X509SVID.parse_der(bytes(damaged), leaf.key_der)
    except InvalidX509SVIDError:
        return
    # Signatures of a chain of one are nobody's to check here; but then the key is the leaf's and the ID is one.
    assert SpiffeID.parse(str(svid.id)) == svid.id


LEAF: dict[str, Any] = {}


# --- the key shows nowhere -------------------------------------------------------------------------------------------


def frames(error: BaseException) -> list[dict[str, Any]]:
    """The locals of all frames of an error, of its causes and contexts, except those of this file."""
    found: list[dict[str, Any]] = []
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        current = todo.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        todo += [current.__cause__, current.__context__]
        trace: TracebackType | None = current.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename != __file__:
                found.append(dict(trace.tb_frame.f_locals))
            trace = trace.tb_next
    return found


def secrets_in(value: object, secrets: tuple[bytes, ...]) -> bool:
    if isinstance(value, bytes | bytearray | memoryview):
        return any(secret in bytes(value) for secret in secrets)
    if isinstance(value, list | tuple | set | frozenset):
        return any(secrets_in(part, secrets) for part in value)
    if isinstance(value, dict):
        return any(secrets_in(part, secrets) for part in (*value, *value.values()))
    try:
        shown = repr(value)
    except Exception:
        return False
    return any(secret.decode("latin-1") in shown or repr(secret)[2:-1] in shown for secret in secrets)


def failing_calls(mint: Any, root: Any) -> dict[str, Callable[[], object]]:
    leaf, other = mint.leaf(root), mint.leaf(root)
    no_path = mint.leaf(root, uri="spiffe://example.org")
    encrypted = leaf.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    return {
        "key of another": lambda: X509SVID.parse_der(leaf.der, other.key_der),
        "key of another, PEM": lambda: X509SVID.parse_pem(leaf.pem, other.key_pem),
        "key cut": lambda: X509SVID.parse_der(leaf.der, leaf.key_der[:-5]),
        "key cut, PEM": lambda: X509SVID.parse_pem(leaf.pem, leaf.key_pem[:-60]),
        "key encrypted": lambda: X509SVID.parse_der(leaf.der, encrypted),
        "chain garbage": lambda: X509SVID.parse_der(b"garbage", leaf.key_der),
        "chain garbage, PEM": lambda: X509SVID.parse_pem(b"garbage", leaf.key_pem),
        "leaf breaks a rule": lambda: X509SVID.parse_der(no_path.der, no_path.key_der),
        "leaf breaks a rule, PEM": lambda: X509SVID.parse_pem(no_path.pem, no_path.key_pem),
        "key among certificates": lambda: X509SVID.parse_pem(leaf.key_pem, leaf.key_pem),
        "key among certificates, one cut": lambda: X509SVID.parse_pem(leaf.key_pem + leaf.pem[:99], leaf.key_pem),
        "arguments mixed up": lambda: X509SVID.parse_der(leaf.key_der, leaf.der),
        "arguments mixed up, PEM": lambda: X509SVID.parse_pem(leaf.key_pem, leaf.pem),
        "two keys": lambda: X509SVID.parse_der(leaf.key_der, leaf.key_der),
        "key as a bundle": lambda: X509Bundle.parse_der(TrustDomain("td"), leaf.key_der),
        "key as a bundle, PEM": lambda: X509Bundle.parse_pem(TrustDomain("td"), leaf.key_pem),
        "key in a bundle, PEM": lambda: X509Bundle.parse_pem(TrustDomain("td"), leaf.key_pem + leaf.pem[:80]),
        "key inside a certificate": lambda: X509SVID.parse_pem(
            b"-----BEGIN CERTIFICATE-----\n" + leaf.key_pem + b"-----END CERTIFICATE-----\n", leaf.key_pem
        ),
        "key between the lines": lambda: X509SVID.parse_pem(leaf.pem[:-30] + leaf.key_pem, leaf.key_pem),
    }


CASES = [
    "key of another",
    "key of another, PEM",
    "key cut",
    "key cut, PEM",
    "key encrypted",
    "chain garbage",
    "chain garbage, PEM",
    "leaf breaks a rule",
    "leaf breaks a rule, PEM",
    "key among certificates",
    "key among certificates, one cut",
    "key inside a certificate",
    "arguments mixed up",
    "arguments mixed up, PEM",
    "two keys",
    "key as a bundle",
    "key as a bundle, PEM",
    "key in a bundle, PEM",
    "key between the lines",
]


@pytest.mark.parametrize("case", CASES)
def test_an_error_carries_no_key_in_text_or_frames(case: str, mint: Any, root: Any) -> None:
    call = failing_calls(mint, root)[case]
    cells = {
        name: cell.cell_contents for name, cell in zip(call.__code__.co_freevars, call.__closure__ or (), strict=True)
    }
    secrets: list[bytes] = []
    for held in cells.values():
        if isinstance(held, bytes):
            secrets.append(held[-60:-5])
        else:
            secrets.append(held.key_der[40:60])
            secrets += held.key_pem.splitlines()[1:-1]
    with pytest.raises((InvalidX509SVIDError, InvalidBundleError)) as refusal:
        call()
    shown = "".join(traceback.TracebackException.from_exception(refusal.value, capture_locals=False).format())
    assert not secrets_in(shown, tuple(secrets))
    for scope in frames(refusal.value):
        for name, value in scope.items():
            assert not secrets_in(value, tuple(secrets)), name


def test_the_search_for_secrets_finds_them(mint: Any, root: Any) -> None:
    def leak(key: bytes) -> None:
        raise InvalidX509SVIDError("no")

    leaf = mint.leaf(root)
    with pytest.raises(InvalidX509SVIDError) as refusal:
        leak(leaf.key_der)
    trace = refusal.value.__traceback__
    assert trace is not None
    assert trace.tb_next is not None
    assert secrets_in(dict(trace.tb_next.tb_frame.f_locals), (leaf.key_der[40:60],))


def test_repr_shows_id_serial_and_expiry_and_no_key(mint: Any, root: Any) -> None:
    leaf = mint.leaf(root)
    svid = X509SVID.parse_der(leaf.der, leaf.key_der, hint="h")
    shown = f"{svid!r} {svid}"
    assert "spiffe://example.org/a" in shown
    assert f"{leaf.certificate.serial_number:x}" in shown
    assert "2026-06-01T13:00:00Z" in shown
    assert "hint='h'" in shown
    assert "PrivateKey" not in shown


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_svid_is_never_pickled(protocol: int, mint: Any, root: Any) -> None:
    leaf = mint.leaf(root)
    svid = X509SVID.parse_der(leaf.der, leaf.key_der)
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(svid, protocol=protocol)
    with pytest.raises(TypeError, match="never pickled"):
        copy.deepcopy(svid)


def test_the_key_comes_back_whole(mint: Any, root: Any) -> None:
    leaf = mint.leaf(root)
    key = load_der_private_key(X509SVID.parse_der(leaf.der, leaf.key_der).key_der(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.private_numbers() == leaf.key.private_numbers()
