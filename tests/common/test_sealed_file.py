import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.spiffe import TrustDomain
from icp_common.sealed_file import BrokenSealError, SealedFile, SealKey

HOME = TrustDomain("example.org")
KEY = SealKey(b"k" * 32)
Make = Callable[..., SealedFile]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def sealed(**changes: object) -> SealedFile:
        options: dict[str, object] = {"name": "agent-svid", "trust_domain": HOME, "version": 1, **changes}
        key = options.pop("key", KEY)
        return SealedFile(tmp_path / "state", key, **options)  # type: ignore[arg-type]

    return sealed


def test_what_is_stored_is_loaded(make: Make, tmp_path: Path) -> None:
    assert make().load() is None
    make().store(b"secret state")
    assert make().load() == b"secret state"
    make().store(b"")
    assert make().load() == b""
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o600
    make().remove()
    assert make().load() is None


def test_the_disk_does_not_show_the_state(make: Make, tmp_path: Path) -> None:
    make().store(b"secret state")
    first = (tmp_path / "state").read_bytes()
    assert b"secret" not in first
    make().store(b"secret state")
    assert (tmp_path / "state").read_bytes() != first


@pytest.mark.parametrize(
    "changes",
    [
        {"key": SealKey(b"K" * 32)},
        {"name": "other"},
        {"trust_domain": TrustDomain("other.org")},
        {"version": 2},
        {"name": "agent-svid\0example.org"},
    ],
)
def test_the_state_is_bound_to_key_name_domain_and_version(make: Make, changes: dict[str, object]) -> None:
    make().store(b"state")
    with pytest.raises(BrokenSealError, match="was changed, or belongs to another"):
        make(**changes).load()
    assert make().load() == b"state"


def test_every_changed_bit_and_every_cut_shows(make: Make, tmp_path: Path) -> None:
    make().store(b"state")
    good = (tmp_path / "state").read_bytes()
    for index in range(len(good)):
        changed = bytearray(good)
        changed[index] ^= 1
        (tmp_path / "state").write_bytes(changed)
        with pytest.raises(BrokenSealError):
            make().load()
        (tmp_path / "state").write_bytes(good[:index])
        with pytest.raises(BrokenSealError):
            make().load()
    (tmp_path / "state").write_bytes(good + b"x")
    with pytest.raises(BrokenSealError):
        make().load()


@given(junk=st.binary(max_size=100))
def test_junk_is_refused(junk: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "sealed-junk"
    path.write_bytes(junk)
    path.chmod(0o600)
    with pytest.raises(BrokenSealError):
        SealedFile(path, KEY, name="x", trust_domain=HOME, version=1).load()


def test_a_file_open_to_others_is_refused(make: Make, tmp_path: Path) -> None:
    make().store(b"state")
    (tmp_path / "state").chmod(0o644)
    with pytest.raises(ConfigurationError, match="open to others"):
        make().load()


def test_a_key_beside_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "key"
    one, two = SealKey.beside(path), SealKey.beside(path)
    assert path.stat().st_mode & 0o777 == 0o600
    sealed = SealedFile(tmp_path / "state", one, name="x", trust_domain=HOME, version=1)
    sealed.store(b"state")
    assert SealedFile(tmp_path / "state", two, name="x", trust_domain=HOME, version=1).load() == b"state"


def test_a_lost_key_does_not_lose_the_state_silently(tmp_path: Path) -> None:
    sealed = SealedFile(tmp_path / "s", SealKey.beside(tmp_path / "k"), name="x", trust_domain=HOME, version=1)
    sealed.store(b"state")
    (tmp_path / "k").unlink()
    fresh = SealedFile(tmp_path / "s", SealKey.beside(tmp_path / "k"), name="x", trust_domain=HOME, version=1)
    with pytest.raises(BrokenSealError, match="restore it with its key"):
        fresh.load()


def test_a_broken_key_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(BrokenSealError, match="holds no key"):
        SealKey.beside(path)
    path.write_bytes(b"l" * 33)
    with pytest.raises(ConfigurationError, match="larger than"):
        SealKey.beside(path)
    path.write_bytes(b"l" * 32)
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="open to others"):
        SealKey.beside(path)


def test_a_systemd_credential_is_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert SealKey.from_credential("seal") is None
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert SealKey.from_credential("seal") is None
    (tmp_path / "seal").write_bytes(b"c" * 40)
    key = SealKey.from_credential("seal")
    assert key is not None
    sealed = SealedFile(tmp_path / "state", key, name="x", trust_domain=HOME, version=1)
    sealed.store(b"state")
    assert sealed.load() == b"state"
    for wrong in (b"c" * 15, b"c" * 4097):
        (tmp_path / "seal").write_bytes(wrong)
        with pytest.raises(BrokenSealError, match="must have 16 to 4096 bytes"):
            SealKey.from_credential("seal")


def test_keys_are_never_shown_or_copied(make: Make, tmp_path: Path) -> None:
    material = os.urandom(16).hex().encode()
    key = SealKey(material)
    assert material.decode() not in repr(key)
    with pytest.raises(TypeError):
        pickle.dumps(key)
    make().store(b"state")
    with pytest.raises(BrokenSealError) as caught:
        make(key=key).load()
    assert material not in locals_of("sealed_file.py", caught)


def locals_of(name: str, caught: pytest.ExceptionInfo[BaseException]) -> list[object]:
    frames = [entry.frame for entry in caught.traceback if Path(entry.path).name == name]
    assert frames
    return [value for frame in frames for value in frame.f_locals.values()]


def test_a_key_or_state_that_could_not_be_kept_is_in_no_frame(tmp_path: Path, make: Make) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"half a key")
    path.chmod(0o600)
    with pytest.raises(BrokenSealError) as caught:
        SealKey.beside(path)
    assert b"half a key" not in locals_of("sealed_file.py", caught)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "inside").touch()
    with pytest.raises(OSError, match="state") as failed:
        make().store(b"the state")
    assert b"the state" not in locals_of("sealed_file.py", failed)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 bytes"):
        SealKey(b"short")
