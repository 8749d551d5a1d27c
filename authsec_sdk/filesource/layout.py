"""Which file of a folder holds what; pure."""

from dataclasses import dataclass
from typing import Final

from authsec_sdk.errors import ConfigurationError

__all__ = ["CERT_MANAGER", "SPIFFE_FILES", "SPIFFE_HELPER", "FileLayout"]


@dataclass(frozen=True, slots=True)
class FileLayout:
    """The names of three files: the chain (leaf first) and the key in PEM, and the bundle.

    A bundle whose name ends in `.json` is a SPIFFE bundle map (Trust Domain and Bundle section 5), which says whose
    each bundle is. Any other is PEM, says nothing of the kind, and so belongs to the one trust domain configured.

    Raises:
        ConfigurationError: a name is not that of a file in the folder, or two are the same.
    """

    certificates: str
    private_key: str
    bundle: str

    def __post_init__(self) -> None:
        names = (self.certificates, self.private_key, self.bundle)
        for name in names:
            if name in ("", ".", "..") or "/" in name or "\0" in name:
                raise ConfigurationError(f"{name!r} is not the name of a file in the folder")
        if len({self.certificates, self.bundle}) < 2 or self.bundle == self.private_key:
            raise ConfigurationError(f"the bundle needs a file of its own, not {self.bundle!r}")

    @property
    def has_bundle_map(self) -> bool:
        """Whether the bundle is a SPIFFE bundle map and not PEM."""
        return self.bundle.endswith(".json")


SPIFFE_HELPER: Final = FileLayout("svid.pem", "svid_key.pem", "svid_bundle.pem")
"""As spiffe-helper writes by default."""

CERT_MANAGER: Final = FileLayout("tls.crt", "tls.key", "ca.crt")
"""As cert-manager's CSI driver for SPIFFE mounts."""

SPIFFE_FILES: Final = FileLayout("certificates.pem", "private_key.pem", "trust_bundles.json")
"""With a bundle map: the one for several trust domains."""
