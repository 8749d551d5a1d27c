"""Read three files of a folder as they were at one moment, or say that they were not."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from authsec_sdk.errors import SpiffeError, UnavailableError
from authsec_sdk.filesource.contents import read_bundle_map, read_pem_bundle, whole
from authsec_sdk.filesource.layout import FileLayout
from authsec_sdk.filesource.reading import Fingerprint, read_file, state_of
from authsec_sdk.spiffe import X509SVID, TrustDomain, X509Context

__all__ = ["Folder"]

MAX_KEY_BYTES = 64 * 1024
MAX_CHAIN_BYTES = 256 * 1024
MAX_BUNDLE_BYTES = 16 * 1024 * 1024


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
        return tuple(state_of(self.path / name) for name in (layout.certificates, layout.private_key, layout.bundle))

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
            read_file(path / layout.certificates, MAX_CHAIN_BYTES),
            read_file(path / layout.private_key, MAX_KEY_BYTES, private=not self.unsafe_key_readable_by_others),
        )
        bundle = read_file(path / layout.bundle, MAX_BUNDLE_BYTES)
        try:
            bundles = read_bundle_map(bundle) if layout.has_bundle_map else read_pem_bundle(self.trust_domain, bundle)
        finally:
            del bundle
        return whole(svid, bundles, self.trust_domain, now=datetime.now(UTC))
