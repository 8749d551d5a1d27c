"""The one session with a PKCS #11 token, used by one thread; opened anew when the token was lost."""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NoAnswerError
from typing import TYPE_CHECKING, TypeVar

import pkcs11
from pkcs11 import PKCS11Error, Session, Token
from pkcs11.exceptions import PinExpired, PinIncorrect, PinInvalid, PinLenRange, PinLocked, UserAlreadyLoggedIn

from icp_server.ca.secrets import read_secret
from icp_server.domain.errors import KeyStoreError
from icp_server.domain.key_settings import TokenKeys

if TYPE_CHECKING:
    from pkcs11 import _pkcs11

logger = logging.getLogger(__name__)

T = TypeVar("T")

_REFUSED_PIN = (PinExpired, PinIncorrect, PinInvalid, PinLenRange, PinLocked)


class TokenSession:
    """Runs work on the token, one at a time, in a thread of its own: few modules bear several.

    Whatever fails in the token is tried once more over a new session: tokens are pulled, restarted and reached by
    networks, and none of this needs an operator. A PIN the token refused is not shown to it again: tokens lock
    themselves after a few wrong ones.
    """

    def __init__(self, settings: TokenKeys) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pkcs11")
        self._stuck: Future[object] | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._library: _pkcs11.lib | None = None
        self._session: Session | None = None
        self._refused_pin = b""
        self.generation = 0
        """Counts sessions; handles of objects are of use in theirs alone. Read and written in the thread."""

    def run(self, work: Callable[[Session], T]) -> T:
        """Do some work in the token's thread, and wait for its end. `work` may run twice.

        Raises:
            KeyStoreError: the token is not there, refuses, or does not answer in time.
        """
        with self._lock:
            if self._closed:
                raise KeyStoreError("the PKCS #11 token is closed: the server stops")
            # Work behind one that hangs would hang as well, and pile up: it is refused until the token answers again.
            if self._stuck is not None and not self._stuck.done():
                raise self._silent()
            self._stuck = None
            done = self._thread.submit(self._work, work)
        try:
            return done.result(self._settings.timeout)
        except NoAnswerError:
            if not done.cancel():
                with self._lock:
                    self._stuck = done  # type: ignore[assignment]  # only asked whether it is done
            raise self._silent() from None

    def close(self) -> None:
        """End the session and the thread, unless the token hangs; then the thread is left to it."""
        with self._lock:
            self._closed = True
            self._thread.submit(self._drop)
            hangs = self._stuck is not None and not self._stuck.done()
        self._thread.shutdown(wait=not hangs)

    def _work(self, work: Callable[[Session], T]) -> T:
        try:
            return work(self._open())
        except PKCS11Error as error:
            logger.warning("The PKCS #11 session failed and is opened anew error=%s", _name(error))
        self._lose()
        try:
            return work(self._open())
        except PKCS11Error as error:
            self._drop()
            raise KeyStoreError(f"the PKCS #11 token {self._settings.token_label!r} failed: {_name(error)}") from error

    def _open(self) -> Session:
        if self._session is None:
            self._session = self._login(self._token())
            self.generation += 1
        return self._session

    def _token(self) -> Token:
        label, serial = self._settings.token_label, self._settings.token_serial
        found = list(self._loaded().get_tokens(token_label=label))
        if serial:
            found = [token for token in found if _serial(token) == serial]
        if not found:
            named = f"{label!r} with serial number {serial!r}" if serial else repr(label)
            raise KeyStoreError(f"there is no PKCS #11 token {named} (module {self._settings.module})")
        if len(found) > 1:
            serials = ", ".join(sorted(map(_serial, found)))
            raise KeyStoreError(f"several PKCS #11 tokens are called {label!r}: choose by token_serial ({serials})")
        return found[0]

    def _loaded(self) -> _pkcs11.lib:
        if self._library is None:
            try:
                self._library = pkcs11.lib(str(self._settings.module))
            except (PKCS11Error, OSError, RuntimeError) as error:
                raise KeyStoreError(f"cannot load the PKCS #11 module {self._settings.module}: {error}") from error
        if not self._library.initialized:
            self._library.initialize()
        return self._library

    def _login(self, token: Token) -> Session:
        pin = read_secret(self._settings.pin)
        digest = hashlib.sha256(pin).digest()
        if hmac.compare_digest(digest, self._refused_pin):
            del pin
            raise self._refused()
        try:
            return token.open(rw=True, user_pin=pin.decode())
        except UserAlreadyLoggedIn:
            return token.open(rw=True)
        except _REFUSED_PIN as error:
            self._refused_pin = digest
            logger.error("The PKCS #11 token refuses the PIN token=%s error=%s", token.label, _name(error))  # noqa: TRY400  (a traceback's locals have the PIN)
        except UnicodeDecodeError:
            pass
        finally:
            pin = b""
        raise self._refused()

    def _lose(self) -> None:
        """Forget the session and everything the module knows of the token, as after it was pulled."""
        self._session = None
        if self._library is None:
            return
        try:
            self._library.reinitialize()
        except PKCS11Error as error:  # it was not initialized any more: `_loaded` makes up for it
            logger.debug("The PKCS #11 module could not be reset error=%s", _name(error))

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        try:
            session.close()
        except PKCS11Error as error:  # lost already
            logger.debug("The PKCS #11 session could not be closed error=%s", _name(error))

    def _refused(self) -> KeyStoreError:
        return KeyStoreError(
            f"the PKCS #11 token {self._settings.token_label!r} refuses the PIN ({self._settings.pin}); "
            "it is not tried again before it is another one, for tokens lock themselves"
        )

    def _silent(self) -> KeyStoreError:
        seconds = self._settings.timeout
        return KeyStoreError(f"the PKCS #11 token {self._settings.token_label!r} did not answer for {seconds:g} s")


def _serial(token: Token) -> str:
    return token.serial.decode("ascii", "replace").strip()


def _name(error: PKCS11Error) -> str:
    """The class says which answer of the token it is; most have no text."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
