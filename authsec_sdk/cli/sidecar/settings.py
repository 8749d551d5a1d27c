"""What ``authsec run`` is asked to do, checked once; pure."""

import enum
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.filesource import FileLayout

__all__ = ["BUNDLE_MAP", "FileModes", "HealthSettings", "JWTFile", "OnRotation", "RunSettings", "parse_signal"]

BUNDLE_MAP: Final = "trust_bundles.json"
_NOT_FOR_PROGRAMS: Final = frozenset({"SIGKILL", "SIGSTOP", "SIGCHLD"})


class OnRotation(enum.Enum):
    """What happens to the command when there are new files."""

    SIGNAL = "signal"
    RESTART = "restart"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class JWTFile:
    """A JWT-SVID in a file, for these names."""

    audience: tuple[str, ...]
    name: str


@dataclass(frozen=True, slots=True)
class FileModes:
    """The modes files get, whatever the umask says."""

    certificates: int = 0o644
    key: int = 0o600
    jwt_bundle: int = 0o600
    jwt_svid: int = 0o600


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """Where probes may ask. An empty host stands for every interface."""

    host: str
    port: int
    liveness_path: str = "/live"
    readiness_path: str = "/ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """All of it.

    Raises:
        ConfigurationError: parts contradict each other, two files have one name, or a name is none of a file.
    """

    folder: Path
    socket: str | None = None
    agent_uid: int | None = None
    command: tuple[str, ...] = ()
    follow_command: bool = True
    """End with the command and its exit code. Otherwise a command that has ended is run again at the next rotation."""
    on_rotation: OnRotation = OnRotation.SIGNAL
    renew_signal: signal.Signals | None = None
    pid_file: Path | None = None
    once: bool = False
    timeout: float | None = None
    """How many seconds to wait for the first files; None stands for ever."""
    grace: float = 10.0
    layout: FileLayout | None = None
    bundle_map: str | None = None
    unsafe_federated_in_pem: bool = False
    add_intermediates_to_bundle: bool = False
    omit_expired: bool = False
    hint: str | None = None
    jwt_svids: tuple[JWTFile, ...] = ()
    jwt_bundle: str | None = None
    modes: FileModes = FileModes()
    swap: bool = False
    remove_at_end: bool = False
    health: HealthSettings | None = None

    def __post_init__(self) -> None:
        names = self.names()
        if not names:
            raise ConfigurationError("nothing to write: name files of an X.509-SVID, a JWT-SVID or a JWT bundle")
        for name in names:
            if name in ("", ".", "..") or "/" in name or "\0" in name or name.startswith(".."):
                raise ConfigurationError(f"{name!r} is not the name of a file in the folder {self.folder}")
        combined = self.layout is not None and self.layout.certificates == self.layout.private_key
        if len(set(names)) != len(names) - combined:
            raise ConfigurationError(f"two files have one name: {', '.join(names)}")
        for file in self.jwt_svids:
            if not file.audience or not all(file.audience):
                raise ConfigurationError(f"the JWT-SVID in {file.name} needs an audience")
        for what, mode in (
            ("certificates", self.modes.certificates),
            ("the key", self.modes.key),
            ("the JWT bundle", self.modes.jwt_bundle),
            ("JWT-SVIDs", self.modes.jwt_svid),
        ):
            if not 0 < mode <= 0o777 or not mode & 0o400:
                raise ConfigurationError(f"the mode of {what} must be between 0400 and 0777, not {mode:#o}")
        if self.once and (self.command or self.pid_file):
            raise ConfigurationError("files that are written once have no rotation to tell a program of")
        if self.pid_file is not None and self.renew_signal is None:
            raise ConfigurationError("a pid file needs the signal to send (--signal, renew_signal)")
        if self.bundle_map is not None and self.layout is None:
            raise ConfigurationError("a bundle map needs the files of an X.509-SVID beside it")

    def names(self) -> list[str]:
        """Every file this asks for."""
        layout = self.layout
        names = [] if layout is None else [layout.certificates, layout.private_key, layout.bundle]
        names += [name for name in (self.bundle_map, self.jwt_bundle) if name is not None]
        return [*names, *(file.name for file in self.jwt_svids)]


def parse_signal(text: str) -> signal.Signals:
    """Return the signal of this name (``SIGHUP`` or ``HUP``) or number.

    Raises:
        ConfigurationError: there is none, or it is none that a program can act on.
    """
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    try:
        found = signal.Signals(int(text)) if text.isdecimal() else signal.Signals[name]
    except (KeyError, ValueError):
        raise ConfigurationError(f"{text[:32]!r} is no signal; write SIGHUP, SIGUSR1 or another") from None
    if found.name in _NOT_FOR_PROGRAMS:
        raise ConfigurationError(f"{found.name} cannot make a program read its files again")
    return found
