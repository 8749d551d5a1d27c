"""Reads the secret a setting names: from a private file, the environment, or a systemd credential."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from authsec_sdk.atomic_file import read_private
from authsec_sdk.errors import ConfigurationError
from icp_server.domain.errors import KeyStoreError
from icp_server.domain.key_settings import SecretPlace, SecretSource

_MAXIMUM = 4096


def read_secret(source: SecretSource, environ: Mapping[str, str] = os.environ) -> bytes:
    """The secret, without the line end that editors put behind it; it may be another one each time.

    Raises:
        KeyStoreError: it is not there, empty, too long, or in a file open to others. The text never holds it.
    """
    try:
        secret = _read(source, environ)
    except FileNotFoundError:
        raise KeyStoreError(f"there is no {source}") from None
    except (OSError, ConfigurationError) as error:
        raise KeyStoreError(f"cannot read the secret: {error}") from error
    if not 0 < len(secret) <= _MAXIMUM:
        size = len(secret)
        del secret  # reports of crashes print the locals of frames
        raise KeyStoreError(f"{source} has {size} bytes; a secret has 1 to {_MAXIMUM}")
    return secret


def _read(source: SecretSource, environ: Mapping[str, str]) -> bytes:
    match source.place:
        case SecretPlace.ENVIRONMENT:
            if source.name not in environ:
                raise FileNotFoundError(source.name)
            return environ[source.name].encode()
        case SecretPlace.FILE:
            return _without_line_end(read_private(source.name, maximum=_MAXIMUM + 2))
        case SecretPlace.CREDENTIAL:
            folder = environ.get("CREDENTIALS_DIRECTORY")
            if not folder:
                raise FileNotFoundError(source.name)
            # systemd made the file and its mode: 0440 where the service has a user of its own, through an access list.
            with (Path(folder) / source.name).open("rb") as file:
                return _without_line_end(file.read(_MAXIMUM + 3))


def _without_line_end(data: bytes) -> bytes:
    return data.removesuffix(b"\n").removesuffix(b"\r")
