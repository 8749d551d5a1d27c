"""Which files are written, which are not, and what probes are told of it."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from authsec_sdk.cli.sidecar.contents import FileContent, Files
from authsec_sdk.cli.sidecar.settings import RunSettings
from authsec_sdk.http_health import HealthState

__all__ = ["FileState"]

_UNWRITTEN: Final = "unwritten"
_WRITTEN: Final = "written"
_FAILED: Final = "failed"


class FileState:
    """What the files are to hold, and what they do hold. Of one asyncio loop; does nothing by itself."""

    def __init__(self, settings: RunSettings, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        layout = settings.layout
        self._x509 = frozenset[str]()
        if layout is not None:
            names = {layout.certificates, layout.private_key, layout.bundle, settings.bundle_map}
            self._x509 = frozenset(name for name in names if name is not None)
        self._folder = settings.folder
        self._names = tuple(dict.fromkeys(settings.names()))
        self._wanted: dict[str, FileContent] = {}
        self._written: dict[str, FileContent] = {}
        self._status = dict.fromkeys(self._names, _UNWRITTEN)
        self.not_after: datetime | None = None
        """When the X.509-SVID that was last offered expires."""

    @property
    def complete(self) -> bool:
        """Whether every file was written at least once."""
        return all(name in self._written for name in self._names)

    @property
    def missing(self) -> list[str]:
        """The files that were never written."""
        return [name for name in self._names if name not in self._written]

    def offer(self, files: Files) -> bool:
        """Say what files are to hold from now on; whether that is news."""
        self._wanted.update(files)
        return bool(self.changed())

    def refuse(self, *names: str) -> None:
        """Say that there was something new for these files that cannot be written."""
        self._status.update(dict.fromkeys(names, _FAILED))

    def refuse_x509(self) -> None:
        """Say that there was an X.509 update that cannot be written."""
        self.refuse(*self._x509)

    def wanted(self) -> dict[str, FileContent]:
        """All that files are to hold, as far as it is known."""
        return dict(self._wanted)

    def changed(self) -> dict[str, FileContent]:
        """What files are to hold and do not."""
        return {name: content for name, content in self._wanted.items() if self._written.get(name) != content}

    def wrote(self, files: Files) -> bool:
        """Note that these were written; whether a program that reads them has to be told.

        A new JWT-SVID every few minutes is no reason to reload; it counts where there are no X.509 files.
        """
        self._written.update(files)
        self._status.update(dict.fromkeys(files, _WRITTEN))
        return not self._x509 or bool(self._x509 & files.keys())

    async def live(self) -> HealthState:
        """Answer the liveness probe: no file failed."""
        return self._answer(healthy=_FAILED not in self._status.values())

    async def ready(self) -> HealthState:
        """Answer the readiness probe: every file is written, and the certificate has not expired."""
        fresh = self.not_after is None or self.not_after > self._clock()
        return self._answer(healthy=fresh and all(status == _WRITTEN for status in self._status.values()))

    def _answer(self, *, healthy: bool) -> HealthState:
        statuses: dict[str, object] = {}
        if self._x509:
            found = {self._status[name] for name in self._x509}
            statuses["x509_write_status"] = next(one for one in (_FAILED, _UNWRITTEN, _WRITTEN) if one in found)
        statuses["jwt_write_status"] = {
            str(self._folder / name): status for name, status in self._status.items() if name not in self._x509
        }
        words = "OK" if healthy else "Service Unavailable"
        return HealthState(healthy, {"status": words, "health": {"file_write_statuses": statuses}})
