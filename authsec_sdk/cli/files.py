"""Files that commands read and write: bounded, never through a pipe that keeps us waiting, never half written."""

import os
import sys
from pathlib import Path
from typing import Final

from authsec_sdk.atomic_file import write_set
from authsec_sdk.cli.sidecar.contents import Files
from authsec_sdk.errors import CallerError, ConfigurationError
from authsec_sdk.filesource.contents import read_pem_bundle
from authsec_sdk.spiffe import BundleSet, TrustDomain, X509Bundle, parse_bundle_document, parse_bundle_map

__all__ = ["MAX_BYTES", "read", "read_token", "read_x509_bundles", "write_files"]

MAX_BYTES: Final = 16 * 1024 * 1024


def read(path: Path) -> bytes:
    """Return what a file, or with `-` standard input, holds.

    Raises:
        CallerError: it is larger than 16 MiB.
        OSError: it cannot be read.
    """
    if str(path) == "-":
        data = sys.stdin.buffer.read(MAX_BYTES + 1)
    else:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise CallerError(f"{path} is larger than {MAX_BYTES} bytes: that is nothing of SPIFFE's")
    return data


def read_token(path: Path) -> str:
    """Return the token in a file or on standard input. On the command line other users of the machine would see it.

    Raises:
        CallerError: it is no text.
        OSError: it cannot be read.
    """
    try:
        return read(path).decode("ascii").strip()
    except UnicodeDecodeError:
        raise CallerError(f"{path} holds no token: it is no ASCII text") from None


def read_x509_bundles(path: Path, trust_domain: TrustDomain) -> BundleSet[X509Bundle]:
    """Read X.509 authorities: PEM or a bundle document, of this trust domain, or a bundle map of several.

    Raises:
        InvalidBundleError: it is none of these, or holds an authority that names another trust domain.
    """
    data = read(path)
    if not data.lstrip().startswith(b"{"):
        return read_pem_bundle(trust_domain, data)
    if b'"trust_domains"' in data:
        return BundleSet(bundle.x509_bundle() for bundle in parse_bundle_map(data).values())
    return BundleSet.of(parse_bundle_document(trust_domain, data).x509_bundle())


def write_files(folder: Path, files: Files) -> list[str]:
    """Write files into a folder that is there; return their paths.

    Raises:
        ConfigurationError: they cannot be written; nothing was changed.
    """
    try:
        write_set(folder, {name: (content.data, content.mode) for name, content in files.items()})
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written to: {error.strerror}") from None
    return [os.fspath(folder / name) for name in files]
