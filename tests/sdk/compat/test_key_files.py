"""Files of an identity: private, whole at any moment, and gone in the end, in a folder as in memory."""

import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from authsec_sdk.compat.key_files import KeyFiles
from authsec_sdk.compat.places import Folder, Memory, Place, default_place
from authsec_sdk.errors import ConfigurationError
from authsec_sdk.spiffe import BundleSet, X509Context
from authsec_sdk.testing import TestCA

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no file is in memory alone")


@pytest.fixture(params=["folder", pytest.param("memory", marks=LINUX)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Folder(tmp_path / "certs") if request.param == "folder" else Memory()


def test_files_are_private_and_go(place: Place, tmp_path: Path) -> None:
    place.write({"a": b"one", "b": b"two"})
    paths = [place.path("a"), place.path("b")]
    assert [path.read_bytes() for path in paths] == [b"one", b"two"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o600] * 2
    place.write({"a": b"three"})
    assert [path.read_bytes() for path in paths] == [b"three", b"two"]
    assert place.path("a") == paths[0]
    place.remove()
    place.remove()
    assert not any(path.exists() for path in paths)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_finds_an_old_file_or_a_new_one_and_never_a_part(place: Place) -> None:
    versions = [bytes([number]) * 50_000 for number in range(1, 4)]
    place.write({"key": versions[0]})
    path, done, torn = place.path("key"), threading.Event(), []

    def read() -> None:
        while not done.is_set():
            if (found := path.read_bytes()) not in versions:
                torn.append(len(found))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for turn in range(300):
            place.write({"key": versions[turn % 3]})
    finally:
        done.set()
        reader.join()
        place.remove()
    assert torn == []


@LINUX
def test_who_holds_a_file_in_memory_open_finds_nothing_in_it_later() -> None:
    place = Memory()
    place.write({"key": b"secret"})
    with place.path("key").open("rb") as held:
        place.remove()
        assert held.read() == b""


@LINUX
def test_descriptors_do_not_grow_and_are_not_inherited() -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    place = Memory()
    for _ in range(20):
        place.write({"a": b"x", "b": b"y"})
    assert descriptors() == before + 2
    assert not any(os.get_inheritable(int(place.path(name).name)) for name in "ab")
    place.remove()
    assert descriptors() == before


def test_a_folder_made_for_it_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        place = Folder(tmp_path / "certs")
        place.write({"key": b"x"})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "certs").stat().st_mode) == 0o700
    assert stat.S_IMODE(place.path("key").stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(ConfigurationError, match="belongs to user 65534"):
        Folder(tmp_path)


def test_what_others_put_there_stays(tmp_path: Path) -> None:
    place = Folder(tmp_path / "certs")
    place.write({"key": b"x"})
    (tmp_path / "certs" / "theirs").write_text("x")
    place.remove()
    assert [path.name for path in (tmp_path / "certs").iterdir()] == ["theirs"]


def test_nothing_is_written_after_the_end(tmp_path: Path, spiffe_ca: TestCA) -> None:
    files = KeyFiles(tmp_path / "certs")
    context = X509Context((spiffe_ca.svid(),), BundleSet.of(spiffe_ca.bundle()))
    files.write(context)
    files.remove()
    files.write(context)
    files.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_default_place_is_new_each_time() -> None:
    one, other = default_place(), default_place()
    one.write({"a": b"1"})
    other.write({"a": b"2"})
    assert one.path("a") != other.path("a")
    assert one.path("a").read_bytes() == b"1"
    one.remove()
    other.remove()
