"""An identity in files, for programs that read nothing else: private, replaced whole, gone when the identity ends."""

import atexit
import logging
import os
import threading
from pathlib import Path
from typing import Final

from authsec_sdk.compat.pem import bundle_pem, certificate_pem, key_pem
from authsec_sdk.compat.places import Folder, Place, default_place
from authsec_sdk.errors import ConfigurationError, NotReadyError, SpiffeError
from authsec_sdk.spiffe import X509Context
from authsec_sdk.workloadapi import X509Source

__all__ = ["KeyFiles"]

_CERTIFICATE: Final = "svid.crt"
_KEY: Final = "svid.key"
_AUTHORITIES: Final = "ca.crt"

_logger = logging.getLogger(__name__)


class KeyFiles:
    """An identity as `svid.crt`, `svid.key` and `ca.crt` in the folder given, or else in memory (`places`).

    What holds: only this user can read them, each is whole at any moment, and all are gone after `remove` and when the
    interpreter ends; where it is killed, those in memory alone.
    Not promised: that a reader finds a key and a certificate that fit in the moment of a rotation, and that who has
    read the files once reads them again.

    Raises:
        ConfigurationError: others may write to the folder, or we may not.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._process = os.getpid()
        self._changing = threading.Lock()
        self._removed = False
        self._place: Place = default_place() if folder is None else Folder(folder)
        atexit.register(self.remove)

    @property
    def certificate(self) -> Path:
        """Where the chain is, leaf first."""
        return self._place.path(_CERTIFICATE)

    @property
    def key(self) -> Path:
        """Where the private key is."""
        return self._place.path(_KEY)

    @property
    def authorities(self) -> Path:
        """Where the authorities of our own trust domain are."""
        return self._place.path(_AUTHORITIES)

    def follow(self, source: X509Source) -> None:
        """Write the newest identity now, and each newer one in a thread that ends with the source.

        Raises:
            ConfigurationError: the files cannot be written now. What fails later is logged, and the files stay.
        """
        context = source.x509_context
        self.write(context)
        threading.Thread(target=self._follow, args=(source, context), name="authsec-key-files", daemon=True).start()

    def write(self, context: X509Context) -> None:
        """Write this identity, unless `remove` was called.

        Raises:
            ConfigurationError: it cannot be written; nothing was changed.
            NoIdentityError: there is no SVID.
        """
        with self._changing:
            if self._removed:
                return
            try:
                self._place.write(
                    {
                        _AUTHORITIES: bundle_pem(context).encode(),
                        _CERTIFICATE: certificate_pem(context.svid).encode(),
                        _KEY: key_pem(context.svid).encode(),
                    }
                )
            except OSError as error:
                raise ConfigurationError(f"the identity cannot be put into files: {error}") from None

    def remove(self) -> None:
        """Remove the files, and the folder if it was made for them. Again, and in a forked child, a no-op."""
        if self._process != os.getpid():
            return  # the parent's files are the parent's
        atexit.unregister(self.remove)
        with self._changing:
            if not self._removed:
                self._removed = True
                self._place.remove()

    def _follow(self, source: X509Source, context: X509Context) -> None:
        while True:
            try:
                context = source.wait(None, newer_than=context)
                self.write(context)
            except ConfigurationError as error:
                _logger.error("the files of the identity are out of date: %s", error)  # noqa: TRY400 - it says it all
            except NotReadyError:
                continue
            except SpiffeError:  # the source was closed; who closed it removes the files
                return
