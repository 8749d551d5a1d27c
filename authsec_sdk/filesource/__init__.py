"""Identities from files that somebody else writes: spiffe-helper, cert-manager's CSI driver, or a SPIFFE folder."""

from authsec_sdk.filesource.filesource import FileSource, FileStatus
from authsec_sdk.filesource.layout import CERT_MANAGER, SPIFFE_FILES, SPIFFE_HELPER, FileLayout

__all__ = ["CERT_MANAGER", "SPIFFE_FILES", "SPIFFE_HELPER", "FileLayout", "FileSource", "FileStatus"]
