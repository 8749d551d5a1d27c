"""Read three files of a folder as they were at one moment, or say that they were not."""

import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from authsec_sdk.errors import ConfigurationError, SpiffeError, UnavailableError
from authsec_sdk.filesource.contents import read_bundle_map, read_pem_bundle, whole
from authsec_sdk.filesource.layout import FileLayout
from authsec_sdk.spiffe import X509SVID, TrustDomain, X509Context

__all__ = ["Fingerprint", "Folder"]

MAX_KEY_BYTES = 64 * 1024
MAX_CHAIN_BYTES = 256 * 1024
MAX_BUNDLE_BYTES = 16 * 1024 * 1024

Fingerprint: TypeAlias = tuple[tuple[int, ...] | None, ...]
"""Of each file what changes when its content or its place does; None for one that is not there."""


@dataclass(frozen=True, slots=True)
class Folder:
    """Where the files are, and what they must be."""

    path: Path
    layout: FileLayout
    trust_domain: TrustDomain
    unsafe_key_readable_by_others: bool = False

    def fingerprint(self) -> Fingerprint:
        """Look at the files without reading them, through symbolic links."""
        layout = self.layout
        return tuple(_state(self.path / name) for name in (layout.certificates, layout.private_key, layout.bundle))

    def load(self) -> tuple[X509Context, Fingerprint]:
        """Return what the files say, all of one moment, and the fingerprint they had.

        Raises:
            UnavailableError: a file is missing or cannot be read, or one was replaced meanwhile: try again.
            ConfigurationError: somebody else may read the key, or a file is none or too large.
            SpiffeError: what they hold breaks a rule, or is not one consistent whole.
        """
        before = self.fingerprint()
        try:
            context = self._load()
        except SpiffeError as error:
            if self.fingerprint() != before:
                raise UnavailableError(f"the files in {self.path} were replaced while they were read") from error
            raise
        if self.fingerprint() != before:
            raise UnavailableError(f"the files in {self.path} were replaced while they were read")
        return context, before

    def _load(self) -> X509Context:
        layout, path = self.layout, self.path
        svid = X509SVID.parse_pem(  # no local variable holds the key: tracebacks show locals
            _read(path / layout.certificates, MAX_CHAIN_BYTES),
            _read(path / layout.private_key, MAX_KEY_BYTES, private=not self.unsafe_key_readable_by_others),
        )
        bundle = _read(path / layout.bundle, MAX_BUNDLE_BYTES)
        try:
            bundles = read_bundle_map(bundle) if layout.has_bundle_map else read_pem_bundle(self.trust_domain, bundle)
        finally:
            del bundle
        return whole(svid, bundles, self.trust_domain, now=datetime.now(UTC))


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _read(path: Path, limit: int, *, private: bool = False) -> bytes:
    data = b""
    try:
        # Without waiting: a pipe in the place of a file would hold up every source of the process.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - opened by its descriptor, which says what it is
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise ConfigurationError(f"{path} is not a file")
            if private and found.st_mode & stat.S_IRWXO:
                raise ConfigurationError(
                    f"{path} has the mode {stat.S_IMODE(found.st_mode):04o}: every user of this machine may use the"
                    " private key; make it 0640 or less, or pass unsafe_key_readable_by_others=True"
                )
            data = file.read(limit + 1)
        if len(data) > limit:
            raise ConfigurationError(f"{path} is larger than {limit} bytes")
        return data
    except OSError as error:
        raise UnavailableError(f"{path} cannot be read: {error.strerror}") from None
    finally:
        del data
