import os
from pathlib import Path

import pytest

from authsec_sdk.errors import ConfigurationError
from icp_common.folders import UnsafeFolderError, check_private_folder, make_private_folder

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving files to another user needs root")


def test_a_folder_is_made_with_its_parents(short_path: Path) -> None:
    folder = make_private_folder(short_path / "a" / "b", 0o755)
    assert folder.stat().st_mode & 0o7777 == 0o755
    assert folder.parent.stat().st_mode & 0o7777 == 0o755
    assert make_private_folder(folder) == folder
    assert folder.stat().st_mode & 0o7777 == 0o755


def test_the_mode_is_exact_whatever_the_umask(short_path: Path) -> None:
    old = os.umask(0o077)
    try:
        folder = make_private_folder(short_path / "public", 0o755)
    finally:
        os.umask(old)
    assert folder.stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o772, 0o1773])
def test_a_folder_others_can_write_to_is_refused(short_path: Path, mode: int) -> None:
    folder = short_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(UnsafeFolderError, match=r"can be written by others .* chmod go-w"):
        check_private_folder(folder)


def test_a_folder_another_group_can_write_to_is_refused(short_path: Path) -> None:
    folder = short_path / "open"
    folder.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, 0, 12345)
    elif other := set(os.getgroups()) - {os.getgid()}:
        os.chown(folder, -1, other.pop())
    else:
        pytest.skip("this user has no second group")
    folder.chmod(0o770)
    with pytest.raises(UnsafeFolderError, match="can be written by others"):
        check_private_folder(folder)


def test_tmp_itself_is_refused_and_a_folder_of_ours_in_it_is_not(short_path: Path) -> None:
    assert short_path.parent == Path("/tmp")
    check_private_folder(short_path)
    with pytest.raises(UnsafeFolderError):
        check_private_folder("/tmp")


def test_a_writable_folder_on_the_way_is_refused(short_path: Path) -> None:
    way, folder = short_path / "open", short_path / "open" / "ours"
    folder.mkdir(parents=True)
    way.chmod(0o777)
    with pytest.raises(UnsafeFolderError, match=f"{way}, on the way to {folder}"):
        check_private_folder(folder)
    way.chmod(0o1777)  # sticky: what is ours in it stays ours
    check_private_folder(folder)


@needs_root
def test_somebody_elses_folder_is_refused(short_path: Path) -> None:
    folder = short_path / "theirs"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    with pytest.raises(UnsafeFolderError, match=r"belongs to user 12345, and this process runs as 0"):
        check_private_folder(folder)
    (folder / "ours").mkdir()
    with pytest.raises(UnsafeFolderError, match="belongs to user 12345"):
        check_private_folder(folder / "ours")


@needs_root
def test_somebody_elses_folder_squatted_in_a_sticky_one_is_refused(short_path: Path) -> None:
    short_path.chmod(0o1777)
    squatted = short_path / "spire-agent"
    squatted.mkdir()
    os.chown(squatted, 12345, 12345)
    with pytest.raises(UnsafeFolderError, match="belongs to user 12345"):
        make_private_folder(squatted / "public")


@needs_root
def test_somebody_elses_link_in_a_sticky_folder_is_refused(short_path: Path) -> None:
    shared, ours = short_path / "shared", short_path / "ours"
    ours.mkdir()
    shared.mkdir()
    shared.chmod(0o1777)
    link = shared / "agent"
    link.symlink_to(ours)
    check_private_folder(link)
    os.chown(link, 12345, 12345, follow_symlinks=False)
    with pytest.raises(UnsafeFolderError, match="belongs to user 12345"):
        check_private_folder(link)


def test_links_are_followed_and_what_they_lead_to_is_checked(short_path: Path) -> None:
    (short_path / "real").mkdir()
    (short_path / "open").mkdir()
    (short_path / "open").chmod(0o777)
    (short_path / "good").symlink_to("real")
    (short_path / "bad").symlink_to(short_path / "open")
    check_private_folder(short_path / "good")
    with pytest.raises(UnsafeFolderError):
        check_private_folder(short_path / "bad")


def test_links_in_a_circle_end(short_path: Path) -> None:
    (short_path / "a").symlink_to("b")
    (short_path / "b").symlink_to("a")
    with pytest.raises(ConfigurationError, match="too many links"):
        check_private_folder(short_path / "a")


def test_what_is_no_folder_is_refused(short_path: Path) -> None:
    (short_path / "file").touch()
    with pytest.raises(ConfigurationError, match="is not a folder"):
        check_private_folder(short_path / "file")
    with pytest.raises(ConfigurationError, match="cannot look at"):
        check_private_folder(short_path / "none")
    with pytest.raises(ConfigurationError):
        make_private_folder(short_path / "file" / "below")
