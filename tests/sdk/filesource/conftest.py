"""Folders of files, written as the programs do that write them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from authsec_sdk.filesource import SPIFFE_HELPER, FileLayout, FileSource
from authsec_sdk.spiffe import BundleSet, TrustBundle
from authsec_sdk.spiffe.bundle_map_json import format_bundle_map
from authsec_sdk.testing import Credential, TestCA


def bundle_map(*cas: TestCA) -> bytes:
    return format_bundle_map(BundleSet(TrustBundle(ca.trust_domain, ca.bundle().authorities) for ca in cas))


@dataclass
class Writer:
    """Writes the files of one identity, each by a rename, in any order."""

    folder: Path
    ca: TestCA = field(default_factory=lambda: TestCA("example.org"))
    layout: FileLayout = SPIFFE_HELPER
    path: str = "/workload"

    def contents(self, credential: Credential | None = None) -> dict[str, bytes]:
        credential = credential or self.ca.credential(self.path)
        bundle = bundle_map(self.ca) if self.layout.has_bundle_map else self.ca.bundle().to_pem()
        return {
            self.layout.certificates: credential.chain_pem(),
            self.layout.private_key: credential.key_pem(),
            self.layout.bundle: bundle,
        }

    def put(self, name: str, data: bytes, mode: int = 0o600) -> None:
        new = self.folder / f".{name}.new"
        new.write_bytes(data)
        new.chmod(mode)
        new.replace(self.folder / name)

    def write(self) -> None:
        for name, data in self.contents().items():
            self.put(name, data)

    def swap(self, number: int) -> None:
        """As kubelet does: a new folder, and one rename of the link to it."""
        version = self.folder / f"..{number}"
        version.mkdir()
        for name, data in self.contents().items():
            (version / name).write_bytes(data)
            (version / name).chmod(0o600)
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        (self.folder / "..tmp").symlink_to(version.name)
        (self.folder / "..tmp").replace(self.folder / "..data")

    def source(self, **options: Any) -> FileSource:
        return FileSource(
            self.folder, **{"trust_domain": "example.org", "layout": self.layout, "interval": 0.05, **options}
        )


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path)


@pytest.fixture
def make_writer() -> Callable[..., Writer]:
    return Writer


@pytest.fixture
def make_bundle_map() -> Callable[..., bytes]:
    return bundle_map
