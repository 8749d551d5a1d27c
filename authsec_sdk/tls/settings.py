"""What a user or a framework may set on a context: immutable values, and the rules they are held to."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from authsec_sdk.tls.errors import ContextSettingError
from authsec_sdk.tls.groups import apply_groups
from authsec_sdk.tls.role import Role

__all__ = [
    "DEFAULT_CIPHERS",
    "REQUIRED_OPTIONS",
    "REQUIRED_VERIFY_FLAGS",
    "SNICallback",
    "Settings",
    "check_cipher_list",
    "check_options",
    "check_verify_flags",
    "check_version",
]

SNICallback: TypeAlias = Callable[[ssl.SSLObject, str | None, ssl.SSLContext], int | None]

REQUIRED_OPTIONS: Final = (
    ssl.Options.OP_NO_TICKET  # a ticket resumes a session without verifying the peer again
    | ssl.Options.OP_NO_COMPRESSION
    | ssl.Options.OP_NO_RENEGOTIATION  # the peer could come out of it as somebody else
)
"""Options that stay set."""

# By their numbers, since `ssl` has no names for them: OpenSSL's NO_EXTENDED_MASTER_SECRET (RFC 7627: without it two TLS
# 1.2 sessions of different peers can be made to share a secret) and ALLOW_UNSAFE_LEGACY_RENEGOTIATION (RFC 5746).
_REFUSED_OPTIONS: Final = 1 << 0 | 1 << 18

REQUIRED_VERIFY_FLAGS: Final = ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST
"""An authority of a bundle is trusted as it is; it need not be self-signed (Trust Domain and Bundle, section 4.1.3)."""

_ALLOWED_VERIFY_FLAGS: Final = REQUIRED_VERIFY_FLAGS | ssl.VerifyFlags.VERIFY_X509_STRICT

DEFAULT_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2, where it is allowed. TLS 1.3 has only suites of this kind, and its list is not changed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything about an inner context that does not come from identity, trust or role. Hashable: a key."""

    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    maximum_version: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED
    options: ssl.Options = REQUIRED_OPTIONS
    verify_flags: ssl.VerifyFlags = REQUIRED_VERIFY_FLAGS
    ciphers: str | None = None
    alpn: tuple[str, ...] = ()
    groups: str | None = None
    keylog_filename: str | None = None
    sni_callback: SNICallback | None = None
    resumption: bool = False

    def __post_init__(self) -> None:
        if self.resumption and self.allows_tls12:
            raise ContextSettingError("resumption needs TLS 1.3: sessions of TLS 1.2 are resumed by their ID as well")
        if self.resumption and self.sni_callback is not None:
            raise ContextSettingError(
                "resumption and an SNI callback exclude each other: a ticket would resume with the context that a "
                "connection began with, and not with the one that the callback chooses"
            )

    @property
    def allows_tls12(self) -> bool:
        """Whether a connection may come out as TLS 1.2, whose sessions OpenSSL would resume by their ID."""
        return self.minimum_version < ssl.TLSVersion.TLSv1_3

    def apply(self, inner: ssl.SSLContext, role: Role) -> None:
        """Set all of it, but the SNI callback, on a new inner context."""
        inner.check_hostname = False
        inner.verify_mode = role.verify_mode
        inner.check_hostname = role.checks_hostname
        inner.hostname_checks_common_name = False  # RFC 9525 section 2: a common name names no host
        inner.options = self.options & ~ssl.Options.OP_NO_TICKET if self.resumption else self.options
        inner.verify_flags = self.verify_flags
        inner.minimum_version = self.minimum_version
        if self.maximum_version != ssl.TLSVersion.MAXIMUM_SUPPORTED:
            inner.maximum_version = self.maximum_version
        if self.ciphers is not None or self.allows_tls12:
            inner.set_ciphers(self.ciphers or DEFAULT_CIPHERS)
        if self.alpn:
            inner.set_alpn_protocols(self.alpn)
        if self.groups is not None:
            apply_groups(inner, self.groups)
        if self.keylog_filename is not None:
            inner.keylog_filename = self.keylog_filename
        if role.server_side:
            inner.num_tickets = 1 if self.resumption else 0


def check_version(value: int) -> ssl.TLSVersion:
    """Return a minimum protocol version that is allowed: TLS 1.2 or 1.3.

    Raises:
        ContextSettingError: it is something else.
    """
    version = ssl.TLSVersion(value)
    if version not in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        raise ContextSettingError(f"minimum_version must be TLSv1_2 or TLSv1_3, not {version.name}")
    return version


def check_alpn(protocols: Iterable[str]) -> tuple[str, ...]:
    """Return ALPN protocols as a tuple of names.

    Raises:
        TypeError: it is one name, whose letters would be taken for protocols.
    """
    if isinstance(protocols, str):
        raise TypeError("ALPN protocols are a list of names, not one name")
    return tuple(protocols)


def check_options(value: int) -> ssl.Options:
    """Return options that keep the required ones set, and none that weakens TLS 1.2.

    Raises:
        ContextSettingError: they do not.
    """
    options = ssl.Options(value)
    missing = REQUIRED_OPTIONS & ~options
    if missing:
        raise ContextSettingError(f"a SPIFFE context keeps {missing!r} set: every connection verifies its peer anew")
    if value & _REFUSED_OPTIONS:
        raise ContextSettingError("a SPIFFE context keeps extended master secrets and secure renegotiation")
    return options


def check_verify_flags(value: int) -> ssl.VerifyFlags:
    """Return verify flags that neither widen nor change which chains are accepted; VERIFY_X509_STRICT may be added.

    Raises:
        ContextSettingError: they do.
    """
    flags = ssl.VerifyFlags(value)
    if flags & REQUIRED_VERIFY_FLAGS != REQUIRED_VERIFY_FLAGS or flags & ~_ALLOWED_VERIFY_FLAGS:
        raise ContextSettingError("of the verify flags only VERIFY_X509_STRICT may be switched, on or off")
    return flags


def check_cipher_list(ciphers: list[Any]) -> None:
    """Check what `SSLContext.get_ciphers` says of a list: forward secrecy and authenticated encryption, nothing else.

    Raises:
        ContextSettingError: a TLS 1.2 suite lacks one of them.
    """
    for cipher in ciphers:
        if cipher["protocol"] == "TLSv1.3":
            continue
        anonymous = cipher["auth"] in ("auth-null", "auth-any") or "psk" in cipher["auth"]
        if cipher["kea"] != "kx-ecdhe" or not cipher["aead"] or anonymous:
            raise ContextSettingError(
                f"{cipher['name']} is not an ECDHE suite with authenticated encryption; use {DEFAULT_CIPHERS!r}"
            )
