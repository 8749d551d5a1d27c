"""Sequence numbers for a bundle whose source has none: they grow when its contents change, also over restarts."""

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authsec_sdk.atomic_file import write_atomic
from authsec_sdk.errors import ConfigurationError
from authsec_sdk.jose.jwk import JWTPublicKey
from authsec_sdk.spiffe import TrustBundle

__all__ = ["Numbered", "Numbering", "contents_digest", "next_number"]

_MAX_STATE = 4096
_MAX_NUMBER = 2**64 - 1

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Numbered:
    """Contents, by their digest, and the number they were given."""

    digest: str
    number: int


def contents_digest(bundle: TrustBundle) -> str:
    """Return what tells contents apart, whatever the order of the authorities; the sequence number does not count."""
    digest = hashlib.sha256()
    parts = sorted(b"x509" + der.public_bytes(Encoding.DER) for der in bundle.x509_authorities)
    parts += sorted(b"jwt" + key_id.encode() + b"\0" + _spki(key) for key_id, key in bundle.jwt_authorities.items())
    parts += sorted(b"wit" + key_id.encode() + b"\0" + _spki(key) for key_id, key in bundle.wit_authorities.items())
    parts.append(f"{bundle.trust_domain} {bundle.refresh_hint}".encode())
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def next_number(last: Numbered | None, digest: str, now: datetime) -> Numbered:
    """Return the number of the contents: that of the last ones if they are the same, a higher one otherwise; pure.

    A new number is the time in seconds since 1970, or one more than the last number where the clock is behind it. So it
    grows over restarts that have forgotten the last number, as long as nobody sets the clock back across them.
    """
    if last is not None and last.digest == digest:
        return last
    clock = int(now.timestamp())
    return Numbered(digest, clock if last is None else max(last.number + 1, clock))


class Numbering:
    """Numbers contents as they come. With `file` the last number outlives restarts whatever the clock does.

    Raises:
        ConfigurationError: the file cannot be read, or something else is in it, which is left alone.
    """

    def __init__(self, file: str | os.PathLike[str] | None = None) -> None:
        self._file = None if file is None else Path(file)
        self._last = None if self._file is None else _read(self._file)

    def number(self, bundle: TrustBundle) -> int:
        """Return the number of these contents. May write the file: not for event loops, nor two threads at once.

        Where the file cannot be written the number is used all the same, and the log says so.
        """
        numbered = next_number(self._last, contents_digest(bundle), datetime.now(UTC))
        if numbered != self._last:
            self._last = numbered
            self._write(numbered)
        return numbered.number

    def _write(self, numbered: Numbered) -> None:
        if self._file is None:
            return
        state = json.dumps({"contents": numbered.digest, "sequence": numbered.number}).encode() + b"\n"
        try:
            write_atomic(self._file, state)
        except OSError as error:
            _logger.error(  # noqa: TRY400 - the text says it all
                "the sequence number of a bundle cannot be kept for the next start: %s file=%s number=%d",
                error.strerror,
                self._file,
                numbered.number,
            )


def _read(file: Path) -> Numbered | None:
    try:
        with file.open("rb") as opened:
            data = opened.read(_MAX_STATE)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"the last sequence number cannot be read: {error.strerror}", str(file)) from error
    try:
        state = json.loads(data)
        digest, number = state["contents"], state["sequence"]
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(
            "this is no file of a sequence number: name another, or remove it", str(file)
        ) from error
    if type(digest) is not str or type(number) is not int or not 0 <= number < _MAX_NUMBER:
        raise ConfigurationError("this is no file of a sequence number: name another, or remove it", str(file))
    return Numbered(digest, number)


def _spki(key: JWTPublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
