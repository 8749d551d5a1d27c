"""The web PKI on one side of a connection: a server's certificate from files that change, and a client's roots."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from authsec_sdk.errors import ConfigurationError

__all__ = ["WebCertificate", "WebIdentity", "WebRoots"]

logger = logging.getLogger(__name__)

_LARGEST_FILE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class WebRoots:
    """The web's authorities that a client accepts: PEM text, or the system's where it is empty."""

    pem: bytes = b""

    @classmethod
    def of(cls, certificates: Iterable[x509.Certificate] | None) -> WebRoots:
        """Take these authorities, or the system's for None.

        Raises:
            ConfigurationError: there are none among them.
        """
        if certificates is None:
            return cls()
        pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
        if not pem:
            raise ConfigurationError("no authorities of the web PKI were given: no server could be accepted")
        return cls(pem)


@dataclass(frozen=True, slots=True)
class WebIdentity:
    """A certificate of the web PKI with its chain and key: what a server presents in place of an SVID."""

    id: str
    certificates: tuple[x509.Certificate, ...]
    private_key: Any = field(repr=False)

    @property
    def not_after(self) -> datetime:
        """When the certificate expires."""
        return self.certificates[0].not_valid_after_utc

    def __reduce__(self) -> NoReturn:
        raise TypeError("a WebIdentity holds a private key and is not pickled")


class WebCertificate:
    """A certificate of the web PKI in PEM files, as certbot and cert-manager lay and renew them.

    The files are looked at once every `interval` seconds, by the next connection. What is new is taken up as one whole:
    a certificate and the key that belongs to it. Until then, and if a file is broken or gone, the last good one stays,
    and the log says so. Safe among threads.

    Not checked: names, dates and the chain; the clients do that.

    Raises:
        ConfigurationError: there is no usable pair at the beginning.
    """

    def __init__(
        self,
        certificate_file: str | os.PathLike[str],
        key_file: str | os.PathLike[str] | None = None,
        *,
        password: bytes | None = None,
        interval: float = 1.0,
    ) -> None:
        self._files = (Path(certificate_file), Path(key_file if key_file is not None else certificate_file))
        self._password = password
        self._interval = interval
        self._lock = threading.Lock()
        self._complaint = ""
        self._seen = self._signature()
        self._current = self._read()
        self._next_look = time.monotonic() + interval

    def __repr__(self) -> str:
        return f"<WebCertificate {self._files[0]} {self._current.id}>"

    def current(self) -> WebIdentity:
        """Return the newest good one. Reads files at most once an interval, and only if they changed."""
        now = time.monotonic()
        if now >= self._next_look and self._lock.acquire(blocking=False):
            try:
                self._next_look = now + self._interval
                self._look()
            finally:
                self._lock.release()
        return self._current

    def renew_lock(self) -> None:
        """Get a free lock, in a forked child."""
        self._lock = threading.Lock()

    def _look(self) -> None:
        try:
            signature = self._signature()
            if signature == self._seen:
                return
            found = self._read()
        except ConfigurationError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                logger.warning("%s; the last good web certificate is kept, expiry=%s", error, self._current.not_after)
            return
        self._seen, self._complaint = signature, ""
        if found.certificates != self._current.certificates:
            logger.info("Took up the web certificate file=%s expiry=%s", self._files[0], found.not_after)
        self._current = found

    def _signature(self) -> tuple[tuple[int, int, int], ...]:
        try:
            stats = [path.stat() for path in self._files]
        except OSError as error:
            raise ConfigurationError(f"the web certificate cannot be read: {error}") from error
        return tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in stats)

    def _read(self) -> WebIdentity:
        certificate_file, key_file = self._files
        problem = ""
        key: Any = None
        try:
            certificates = tuple(x509.load_pem_x509_certificates(_bounded(certificate_file)))
            key = load_pem_private_key(_bounded(key_file), self._password)
            belong = _public(key.public_key()) == _public(certificates[0].public_key())
        except Exception as error:  # noqa: BLE001 - whatever a parser raises, its frames hold the key's text
            problem = f"{type(error).__name__}: {error}" if isinstance(error, OSError) else type(error).__name__
        if problem:
            del key
            raise ConfigurationError(
                f"the web certificate {certificate_file} with {key_file} cannot be read: {problem}"
            )
        if not belong:
            del key
            raise ConfigurationError(f"the key in {key_file} does not belong to the certificate in {certificate_file}")
        return WebIdentity(f"web certificate {certificate_file}", certificates, key)


def _public(key: Any) -> bytes:
    der: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return der


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_LARGEST_FILE + 1)
    if len(data) > _LARGEST_FILE:
        raise OSError(f"{path} is larger than {_LARGEST_FILE} bytes")
    return data
