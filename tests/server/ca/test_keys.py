"""Keys in memory and on disk: kept whole, private, and never shown."""

from __future__ import annotations

import base64
import json
import pickle
import stat
import traceback
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from icp_server.ca.keys import generate_private_key, public_key_info
from icp_server.ca.keys_disk import DiskKeyManager
from icp_server.ca.keys_memory import MemoryKeyManager
from icp_server.ca.keys_seal import Seal
from icp_server.ca.secrets import read_secret
from icp_server.domain.errors import KeyStoreError
from icp_server.domain.key_settings import SecretPlace, SecretSource
from icp_server.domain.key_type import KeyType


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "private"
    made.mkdir(mode=0o700)
    return made


def test_every_kind_of_key() -> None:
    sizes = {}
    for key_type in KeyType:
        key = generate_private_key(key_type)
        sizes[key_type.value] = (type(key).__name__, key.key_size)
        assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    assert {name: size for name, (_, size) in sizes.items()} == {
        "ec-p256": 256, "ec-p384": 384, "rsa-2048": 2048, "rsa-4096": 4096
    }  # fmt: skip


def test_memory_keeps_keys_as_long_as_it_lives() -> None:
    keys = MemoryKeyManager()
    assert keys.get("a") is None
    first = keys.generate("a", KeyType.EC_P256)
    assert keys.get("a") is first
    assert keys.generate("a", KeyType.EC_P256) is keys.get("a") is not first


def test_disk_keeps_keys_for_the_next_process(folder: Path) -> None:
    path = folder / "keys.json"
    keys = DiskKeyManager(path)
    made = {name: keys.generate(name, KeyType(kind)) for name, kind in (("A", "ec-p256"), ("B", "rsa-2048"))}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = DiskKeyManager(path)
    for name, key in made.items():
        found = again.get(name)
        assert found is not None
        assert public_key_info(found) == public_key_info(key)
    assert again.get("C") is None
    replaced = again.generate("A", KeyType.EC_P384)
    found = DiskKeyManager(path).get("A")
    assert found is not None
    assert public_key_info(found) == public_key_info(replaced)
    assert [item.name for item in folder.iterdir()] == ["keys.json"]


def test_a_key_file_of_spire_is_read(folder: Path) -> None:
    key = generate_private_key(KeyType.EC_P256)
    text = base64.b64encode(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())).decode()
    path = folder / "keys.json"
    path.write_text(json.dumps({"keys": {"x509-CA-A": text}}, indent="\t"))
    path.chmod(0o600)
    found = DiskKeyManager(path).get("x509-CA-A")
    assert found is not None
    assert public_key_info(found) == public_key_info(key)


def secret_of(key: ec.EllipticCurvePrivateKey) -> str:
    return base64.b64encode(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())).decode()


P256 = secret_of(ec.generate_private_key(ec.SECP256R1()))
ED = base64.b64encode(
    ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
).decode()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"keys": 1}', '{"keys": {"A": 1}}', '{"keys": {"A": "!!"}}', '{"keys": {"A": "AAAA"}}',
     '{"keys": {"A": "' + P256[:80] + '"}}', '{"keys": {"A": "' + ED + '"}}', '{"keys": {"A": "' + P256 + '"}',
     "[" * 100_000],
    ids=range(12),  # the contents differ from run to run
)  # fmt: skip
def test_a_malformed_file_is_refused_and_not_shown(folder: Path, content: str) -> None:
    path = folder / "keys.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(KeyStoreError, match="not a key file") as caught:
        DiskKeyManager(path)
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    mine = shown.split("test_a_malformed_file_is_refused_and_not_shown")[-1]  # this test's own frame has the content
    assert P256[40:80] not in mine.split("icp_server/ca/keys_disk.py", 1)[-1]
    assert ED[20:60] not in mine.split("icp_server/ca/keys_disk.py", 1)[-1]
    assert path.read_text() == content  # nothing is lost of what could be repaired


def test_a_file_open_to_others_is_refused(folder: Path) -> None:
    path = folder / "keys.json"
    DiskKeyManager(path).generate("A", KeyType.EC_P256)
    path.chmod(0o644)
    with pytest.raises(KeyStoreError, match="chmod 600"):
        DiskKeyManager(path)


def test_a_folder_open_to_others_is_refused(folder: Path) -> None:
    folder.chmod(0o777)
    with pytest.raises(KeyStoreError, match="can be written by others"):
        DiskKeyManager(folder / "keys.json")


def test_a_key_that_cannot_be_written_is_not_kept(folder: Path) -> None:
    path = folder / "keys.json"
    keys = DiskKeyManager(path)
    before = keys.generate("A", KeyType.EC_P256)
    path.unlink()
    path.mkdir()  # nothing can be put in its place
    (path / "x").touch()
    with pytest.raises(KeyStoreError, match="cannot write"):
        keys.generate("A", KeyType.EC_P256)
    assert keys.get("A") is before


def test_a_sealed_file_shows_nothing_and_opens_with_its_secret(folder: Path) -> None:
    path = folder / "keys.json"
    keys = DiskKeyManager(path, Seal(b"open sesame"))
    key = keys.generate("x509-CA-A", KeyType.EC_P256)
    first = path.read_bytes()
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    for shown in (b"x509-CA-A", b"keys", secret_of(key).encode()[40:80]):
        assert shown not in first.removeprefix(b"icp sealed keys 1\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = DiskKeyManager(path, Seal(b"open sesame")).get("x509-CA-A")
    assert found is not None
    assert public_key_info(found) == public_key_info(key)
    again = DiskKeyManager(path, Seal(b"open sesame"))
    again.generate("x509-CA-B", KeyType.EC_P256)
    kept = DiskKeyManager(path, Seal(b"open sesame"))
    assert kept.get("x509-CA-A") is not None
    assert kept.get("x509-CA-B") is not None


def test_a_sealed_file_is_refused_without_its_secret(folder: Path) -> None:
    path = folder / "keys.json"
    DiskKeyManager(path, Seal(b"open sesame")).generate("A", KeyType.EC_P256)
    with pytest.raises(KeyStoreError, match="is sealed: say with what"):
        DiskKeyManager(path)
    with pytest.raises(KeyStoreError, match="sealed with another secret"):
        DiskKeyManager(path, Seal(b"open sesam"))


@pytest.mark.parametrize("at", [0, 20, 40, 60, -1])
def test_a_changed_sealed_file_is_refused(folder: Path, at: int) -> None:
    path = folder / "keys.json"
    DiskKeyManager(path, Seal(b"s")).generate("A", KeyType.EC_P256)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(KeyStoreError, match=r"another secret|not a key file"):
        DiskKeyManager(path, Seal(b"s"))
    path.write_bytes(data[:30])
    with pytest.raises(KeyStoreError, match=r"another secret|not a key file"):
        DiskKeyManager(path, Seal(b"s"))


def test_a_file_in_the_clear_is_sealed_where_there_is_a_seal(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folder / "keys.json"
    key = DiskKeyManager(path).generate("A", KeyType.EC_P256)
    found = DiskKeyManager(path, Seal(b"s")).get("A")
    assert found is not None
    assert public_key_info(found) == public_key_info(key)
    assert Seal.is_sealed(path.read_bytes())
    assert "Sealed the keys" in caplog.text
    assert DiskKeyManager(path, Seal(b"s")).get("A") is not None


def test_a_seal_is_not_shown() -> None:
    seal = Seal(b"open sesame")
    assert "sesame" not in repr(seal)
    with pytest.raises(TypeError):
        pickle.dumps(seal)


@pytest.mark.parametrize(
    ("content", "secret"), [(b"a b\n", b"a b"), (b"a\r\n", b"a"), (b" x ", b" x "), (b"a\n\n", b"a\n")]
)
def test_a_secret_of_a_file_ends_before_the_line_does(tmp_path: Path, content: bytes, secret: bytes) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    file.chmod(0o600)
    assert read_secret(SecretSource(SecretPlace.FILE, str(file))) == secret
    assert (
        read_secret(SecretSource(SecretPlace.CREDENTIAL, "secret"), {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == secret
    )


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "has 0 bytes"), (b"\n", "has 0 bytes"), (b"x" * 5000, "larger than")]
)
def test_a_secret_that_is_none_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(KeyStoreError, match=words):
        read_secret(SecretSource(SecretPlace.FILE, str(file)))


@pytest.mark.parametrize("place", list(SecretPlace))
def test_a_secret_that_is_missing_is_named(tmp_path: Path, place: SecretPlace) -> None:
    name = str(tmp_path / "none") if place is SecretPlace.FILE else "none"
    with pytest.raises(KeyStoreError, match=f"there is no {place.value} "):
        read_secret(SecretSource(place, name), {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    with pytest.raises(KeyStoreError, match=f"there is no {place.value} "):
        read_secret(SecretSource(place, name), {})
