import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from authsec_sdk.atomic_file import read_private, remove_file, remove_leftovers, write_atomic, write_set
from authsec_sdk.errors import ConfigurationError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert read_private(path) == b"two"
    assert path.stat().st_mode & 0o7777 == 0o600
    assert names(tmp_path) == ["state"]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o400])
def test_the_mode_is_exact_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    old = os.umask(0o777)
    try:
        write_atomic(tmp_path / "state", b"", mode)
    finally:
        os.umask(old)
    assert (tmp_path / "state").stat().st_mode & 0o7777 == mode


def test_a_link_is_replaced_and_never_followed(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "state"
    victim.write_bytes(b"victim")
    path.symlink_to(victim)
    write_atomic(path, b"new")
    assert victim.read_bytes() == b"victim"
    assert not path.is_symlink()
    assert path.read_bytes() == b"new"


def test_a_link_is_not_read(tmp_path: Path) -> None:
    write_atomic(tmp_path / "real", b"x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("link", "dangling"):
        with pytest.raises(ConfigurationError, match="is a link"):
            read_private(tmp_path / name)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.mkdir()
    (path / "inside").touch()
    with pytest.raises(OSError, match="state"):
        write_atomic(path, b"new")
    assert names(tmp_path) == ["state"]
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "none" / "state", b"new")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    write_atomic(tmp_path / "state", b"x", mode)
    with pytest.raises(ConfigurationError, match=r"is open to others .* chmod 600"):
        read_private(tmp_path / "state")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigurationError, match="not a regular file"):
        read_private(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        read_private(tmp_path / "none")


def test_a_file_too_large_is_refused(tmp_path: Path) -> None:
    write_atomic(tmp_path / "state", b"12345")
    assert read_private(tmp_path / "state", maximum=5) == b"12345"
    with pytest.raises(ConfigurationError, match="larger than 4 bytes"):
        read_private(tmp_path / "state", maximum=4)


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files to another user needs root")
def test_somebody_elses_file_is_refused(tmp_path: Path) -> None:
    write_atomic(tmp_path / "state", b"x")
    os.chown(tmp_path / "state", 12345, -1)
    with pytest.raises(ConfigurationError, match="belongs to user 12345"):
        read_private(tmp_path / "state")


def test_removing_is_idempotent(tmp_path: Path) -> None:
    write_atomic(tmp_path / "state", b"x")
    remove_file(tmp_path / "state")
    remove_file(tmp_path / "state")
    assert names(tmp_path) == []


WRITER = """
import sys
from authsec_sdk.atomic_file import write_atomic
contents = [bytes([65 + number]) * 3_000_000 for number in range(4)]
write_atomic(sys.argv[1], contents[0])
print("ready", flush=True)
while True:
    for content in contents:
        write_atomic(sys.argv[1], content)
"""


def test_kill_9_in_the_middle_leaves_one_content_whole(tmp_path: Path) -> None:
    path = tmp_path / "state"
    interrupted = 0
    for delay in range(12):
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], env=environ, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            try:
                process.wait(0.003 * delay)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        content = read_private(path)
        assert len(content) == 3_000_000
        assert len(set(content)) == 1
        interrupted += len(names(tmp_path)) > 1
        remove_leftovers(path)
        assert names(tmp_path) == ["state"]
    assert interrupted, "no writer was killed in the middle: this test proves nothing"


def test_leftovers_of_other_files_stay(tmp_path: Path) -> None:
    for name in (".state.ab.tmp", ".state2.ab.tmp", "state.tmp", ".state.ab"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path / "state")
    assert names(tmp_path) == [".state.ab", ".state2.ab.tmp", "state.tmp"]
    remove_leftovers(tmp_path / "none" / "state")


def test_a_failed_write_leaves_no_content_in_its_frames(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.mkdir()
    (path / "inside").touch()
    with pytest.raises(OSError, match="state") as caught:
        write_atomic(path, bytes.fromhex("6b6579") * 3)
    frames = [entry.frame for entry in caught.traceback if Path(entry.path).name == "atomic_file.py"]
    assert frames
    assert not any("keykeykey" in repr(value) for frame in frames for value in frame.f_locals.values())


def test_a_set_is_written_with_its_modes(tmp_path: Path) -> None:
    write_set(tmp_path, {"a": (b"1", 0o600), "b": (b"2", 0o644)})
    assert {path.name: (path.read_bytes(), path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {
        "a": (b"1", 0o600),
        "b": (b"2", 0o644),
    }


def test_of_a_set_that_cannot_be_written_nothing_is(tmp_path: Path) -> None:
    write_set(tmp_path, {"a": (b"old", 0o600)})
    with pytest.raises(OSError, match="too long"):
        write_set(tmp_path, {"a": (b"new", 0o600), "b" * 300: (b"2", 0o600)})
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"
