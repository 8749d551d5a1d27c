"""Keys in memory and on disk: kept whole, private, and never shown."""

from __future__ import annotations

import base64
import json
import stat
import traceback
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from icp_server.ca.keys import generate_private_key, public_key_info
from icp_server.ca.keys_disk import DiskKeyManager
from icp_server.ca.keys_memory import MemoryKeyManager
from icp_server.domain.errors import KeyStoreError
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
