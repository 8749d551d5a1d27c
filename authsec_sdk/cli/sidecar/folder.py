"""Put files on the disk: one by one, or all at once by swapping a directory. What is there stays until all is ready."""

import contextlib
import secrets
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from authsec_sdk.atomic_file import remove_leftovers, write_set
from authsec_sdk.cli.sidecar.contents import Files
from authsec_sdk.errors import ConfigurationError

__all__ = ["Folder"]

_CURRENT: Final = "..data"
_GENERATION: Final = "..authsec-"


class Folder:
    """A folder that one `authsec run` writes to.

    With `swap` the files are links to `..data/NAME`, and `..data` is a link to the directory of the newest generation,
    replaced in one step, as kubelet lays out volumes: who opens `..data` once reads files that fit together, and who
    opens them by name never finds one half written. Without it each file is replaced by itself, whole.
    """

    def __init__(self, path: Path, *, swap: bool) -> None:
        self.path = path
        self._swap = swap

    def check(self) -> None:
        """Refuse a folder in which everybody may put files of their own in the place of ours.

        Raises:
            ConfigurationError: so it is, or there is no such folder.
        """
        try:
            status = self.path.stat()
        except OSError as error:
            raise ConfigurationError(f"{self.path}: {error.strerror}: make the folder first") from None
        if not stat.S_ISDIR(status.st_mode):
            raise ConfigurationError(f"{self.path} is no folder")
        if status.st_mode & stat.S_IWOTH:
            raise ConfigurationError(
                f"everybody may write to {self.path} (mode {stat.S_IMODE(status.st_mode):04o}), and so replace what is"
                f" there by an identity of their own: use a folder of its own, or run: chmod o-w {self.path}"
            )

    def write(self, files: Files, others: Iterable[str] = ()) -> None:
        """Replace these files; with a swap, keep `others` of the generation before.

        Raises:
            OSError: nothing was changed, but see `atomic_file.write_set`.
        """
        if self._swap:
            self._write_generation(files, others)
            return
        write_set(self.path, {name: (content.data, content.mode) for name, content in files.items()})

    def clean(self, names: Iterable[str]) -> None:
        """Remove what a crash has left beside the files, and generations that are not the current one."""
        for name in names:
            remove_leftovers(self.path / name)
        current = self._current()
        for generation in self.path.glob(f"{_GENERATION}*"):
            if generation.name != current:
                self._remove(generation)

    def remove(self, names: Iterable[str]) -> None:
        """Remove the files, and every generation."""
        for name in (*names, _CURRENT):
            (self.path / name).unlink(missing_ok=True)
        self.clean(())

    def _write_generation(self, files: Files, others: Iterable[str]) -> None:
        new = self.path / f"{_GENERATION}{secrets.token_hex(8)}"
        new.mkdir(0o755)
        before = self._current()
        try:
            new.chmod(0o755)  # whatever the umask says; the files have modes of their own
            write_set(new, {name: (content.data, content.mode) for name, content in files.items()})
            kept = [] if before is None else [name for name in others if (self.path / before / name).is_file()]
            for name in kept:
                (new / name).hardlink_to(self.path / str(before) / name)
            self._link(_CURRENT, new.name)
        except BaseException:
            self._remove(new)
            raise
        for name in (*files, *kept):
            self._link(name, f"{_CURRENT}/{name}")
        self.clean(())

    def _link(self, name: str, target: str) -> None:
        place = self.path / name
        with contextlib.suppress(OSError):
            if str(place.readlink()) == target:
                return
        temporary = self.path / f".{name}.{secrets.token_hex(8)}.tmp"
        temporary.symlink_to(target)
        try:
            temporary.replace(place)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _current(self) -> str | None:
        try:
            target = (self.path / _CURRENT).readlink().name
        except OSError:
            return None
        return target if target.startswith(_GENERATION) else None

    @staticmethod
    def _remove(generation: Path) -> None:
        with contextlib.suppress(OSError):  # it is in nobody's way, and goes at the next start
            shutil.rmtree(generation)
