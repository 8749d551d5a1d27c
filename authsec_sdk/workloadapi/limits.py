"""How much an agent may send: bounds on one update, far above what any deployment uses, so that none eats the host."""

from dataclasses import dataclass

__all__ = ["UpdateLimits"]


@dataclass(frozen=True, slots=True)
class UpdateLimits:
    """Bounds on one message of the Workload API. Larger ones are refused with words and the last good context is kept.

    A federated bundle which alone is too large costs only its own trust domain: see `wire.X509Update`.
    """

    message_bytes: int = 16 * 1024 * 1024
    """The whole message. gRPC's own default of 4 MiB would refuse some large federations."""

    svids: int = 100
    """Identities of one workload."""

    chain_bytes: int = 256 * 1024
    """One certificate chain; how many certificates it may have, `X509SVID` itself says."""

    key_bytes: int = 64 * 1024
    """One private key; an RSA key of 16384 bits has less than 10 KiB."""

    hint_bytes: int = 1024
    """One hint."""

    bundles: int = 1000
    """Trust domains federated with."""

    bundle_bytes: int = 1024 * 1024
    """The certificates of one trust domain."""

    authorities: int = 500
    """The number of certificates of one trust domain. Each costs OpenSSL 0.14 ms in every generation."""

    crls: int = 100
    """Certificate revocation lists."""

    crl_bytes: int = 1024 * 1024
    """One certificate revocation list."""
