"""Hand identity and authorities to OpenSSL, which reads files only, without a readable key ever lying anywhere.

The file is an anonymous one in memory (memfd), and the key in it is encrypted under a password that is used once and
never leaves this module: another process of the same user may read the file through /proc while it exists, and finds
ciphertext. It is emptied before it is closed, for those who hold it open. Where there is no memfd (macOS, or a seccomp
filter) a temporary file takes its place, encrypted just the same.

Not promised: that the password and OpenSSL's own copy of the key are never swapped out.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import ssl
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from authsec_sdk.errors import InvalidX509SVIDError

__all__ = [
    "Identity",
    "encrypted_pem",
    "load_authorities",
    "load_identity",
    "memory_file",
    "readable_file",
    "temporary_file",
]


class Identity(Protocol):
    """What one side presents: an `X509SVID`, or a certificate of the web PKI."""

    @property
    def id(self) -> object:
        """What it is called in messages."""
        ...

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        """The chain, leaf first."""
        ...

    @property
    def private_key(self) -> Any:
        """The key of the leaf."""
        ...

    @property
    def not_after(self) -> datetime:
        """When the leaf expires."""
        ...


def load_identity(inner: ssl.SSLContext, svid: Identity) -> None:
    """Make `inner` present an SVID, or another identity.

    Raises:
        InvalidX509SVIDError: OpenSSL does not take it: key and certificate do not match, or the key is too weak for
            its security level. Neither the error nor any frame in its traceback holds key, password or PEM.
    """
    problem = ""
    password = secrets.token_hex(24).encode()
    try:
        pem = encrypted_pem(svid, password)
        with readable_file(pem) as path:
            inner.load_cert_chain(path, password=password)
    except Exception as error:  # noqa: BLE001 - whatever it is, its frames hold secrets and it must not leave
        problem = _words(error)
    finally:
        del password
        pem = b""
    if problem:  # raised out here, so that the error above is not even the context of this one
        raise InvalidX509SVIDError(f"OpenSSL does not take the SVID of {svid.id}: {problem}")


def load_authorities(inner: ssl.SSLContext, pem: bytes) -> None:
    """Add authorities, as PEM text, to the trust store of `inner`; none for an empty text.

    From a file and not from a string, because only then OpenSSL works without Python's global lock: a thousand
    authorities take 150 ms, in which other threads go on.

    Raises:
        ssl.SSLError: OpenSSL does not take one of them. Those before it are loaded.
    """
    if pem:
        with readable_file(pem) as path:
            inner.load_verify_locations(cafile=path)


def encrypted_pem(svid: Identity, password: bytes) -> bytes:
    """Return key and chain as PEM text, the key encrypted. The plain key never becomes a Python object.

    The password is random, so the format with the fastest key derivation is the right one; Ed25519 keys have only the
    slower PKCS#8.
    """
    modern = isinstance(svid.private_key, ed25519.Ed25519PrivateKey)
    form = PrivateFormat.PKCS8 if modern else PrivateFormat.TraditionalOpenSSL
    try:
        key: bytes = svid.private_key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(password))
    finally:
        del password
    return key + b"".join(certificate.public_bytes(Encoding.PEM) for certificate in svid.certificates)


@contextlib.contextmanager
def readable_file(data: bytes) -> Iterator[str]:
    """Give a path under which `data` can be read inside the block, and by nobody afterwards."""
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(memory_file(data))
        except (OSError, AttributeError):  # no memfd here, or no /proc to reach it through
            path = stack.enter_context(temporary_file(data))
        yield path


@contextlib.contextmanager
def memory_file(data: bytes) -> Iterator[str]:
    """Give the path of an anonymous file in memory.

    Raises:
        OSError: the kernel or its /proc does not allow it.
        AttributeError: this platform knows no such files.
    """
    descriptor = os.memfd_create("authsec", os.MFD_CLOEXEC)
    try:
        path = f"/proc/self/fd/{descriptor}"
        _write(descriptor, data)
        os.stat(path)  # noqa: PTH116 - only to fail now, where there is a fallback, and not inside OpenSSL
        yield path
    finally:
        os.ftruncate(descriptor, 0)
        os.close(descriptor)


@contextlib.contextmanager
def temporary_file(data: bytes) -> Iterator[str]:
    """Give the path of a temporary file that only this user can open.

    Raises:
        OSError: it cannot be written.
    """
    descriptor, path = tempfile.mkstemp(prefix="authsec-")  # mode 0600, and never somebody else's file
    try:
        _write(descriptor, data)
        yield path
    finally:
        os.ftruncate(descriptor, 0)
        os.close(descriptor)
        Path(path).unlink(missing_ok=True)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _words(error: Exception) -> str:
    """Say what OpenSSL or the system said. Its texts quote no input."""
    if isinstance(error, OSError):
        return f"{type(error).__name__}: {error.strerror or error}"
    return type(error).__name__
