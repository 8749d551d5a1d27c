"""The web certificate of our bundle endpoint: read from files, and again when whoever keeps them has replaced them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from datetime import timedelta
from pathlib import Path

from authsec_sdk.errors import ConfigurationError

logger = logging.getLogger(__name__)


class ServingCertificate:
    """The TLS of the next connection. `load` once, then `run` until cancelled.

    What cannot be read or does not fit together replaces nothing: the last good certificate stays, and the log says so.
    """

    def __init__(self, certificate: Path, key: Path, *, every: timedelta) -> None:
        self._certificate = certificate
        self._key = key
        self._every = every
        self._context: ssl.SSLContext | None = None
        self._seen = b""

    def context(self) -> ssl.SSLContext:
        """The newest one."""
        assert self._context is not None, "load comes first"
        return self._context

    def load(self) -> bool:
        """Read the files; whether they are others than before.

        Raises:
            ConfigurationError: they cannot be read, or the key is not the certificate's.
        """
        try:
            seen = hashlib.sha256(self._certificate.read_bytes() + b"\0" + self._key.read_bytes()).digest()
            if seen == self._seen:
                return False
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["http/1.1"])
            # A key that asks for a password would stop the server at a terminal's prompt.
            context.load_cert_chain(self._certificate, self._key, password=lambda: b"")
        except OSError as error:  # ssl.SSLError is one
            raise ConfigurationError(
                f"the certificate of the bundle endpoint cannot be used: {error.strerror or error}",
                str(self._certificate),
            ) from None
        self._context, self._seen = context, seen
        return True

    async def run(self) -> None:
        """Look at the files for ever."""
        while True:
            await asyncio.sleep(self._every.total_seconds())
            try:
                if await asyncio.to_thread(self.load):
                    logger.info("The certificate of the bundle endpoint was replaced file=%s", self._certificate)
            except ConfigurationError as error:
                logger.error("Keeping the last certificate of the bundle endpoint error=%s", error)  # noqa: TRY400  (the text says it all)
