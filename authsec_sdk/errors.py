"""Every error this project raises, in one family, grouped by who has to act.

=========================  ==============================================================
`CallerError`              the calling code has to change
`OperatorError`            a registration, a configuration or the server side has to change
`PeerCredentialError`      a certificate is wrong (the peer's, or one we were given as ours)
`PeerNotAuthorizedError`   the peer's certificate is fine, its rights are not
`RetryableError`           nobody: wait and try again
=========================  ==============================================================

Catch a group to decide what to do, a class to tell a case apart, `SpiffeError` to catch all.
Nothing here imports anything of ours, and no error ever carries key material. The classes that must also be
`ssl` errors live in `authsec_sdk.tls` and carry one of these as their reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the one look upwards: a refusal carries the ID it refused
    from authsec_sdk.spiffe.ids import SpiffeID, TrustDomain

__all__ = [
    "CallerError",
    "ConfigurationError",
    "InvalidAuthorizerError",
    "InvalidBundleError",
    "InvalidEndpointError",
    "InvalidSpiffeIDError",
    "InvalidTrustDomainError",
    "InvalidX509SVIDError",
    "NoBundleForTrustDomainError",
    "NoIdentityError",
    "NotReadyError",
    "OperatorError",
    "PeerCredentialError",
    "PeerNotAuthorizedError",
    "RetryableError",
    "SourceClosedError",
    "SpiffeError",
    "UnavailableError",
    "UntrustedPeerError",
    "WorkloadAPIError",
]


class SpiffeError(Exception):
    """The root of every error this project raises."""


# --- the calling code has to change ---------------------------------------------------------------------------------


class CallerError(SpiffeError):
    """The code that made this call is wrong; trying again gives the same answer."""


class InvalidSpiffeIDError(CallerError, ValueError):
    """A text is not a SPIFFE ID (SPIFFE-ID section 2), or not a pattern of SPIFFE IDs."""


class InvalidTrustDomainError(InvalidSpiffeIDError):
    """A text is not a trust domain name (SPIFFE-ID section 2.1)."""


class InvalidEndpointError(CallerError, ValueError):
    """An address, such as the one in `SPIFFE_ENDPOINT_SOCKET`, is missing or breaks the rules for its scheme."""


class InvalidAuthorizerError(CallerError, TypeError):
    """What was given as an authorizer cannot be one: not callable, `async def`, or a combination of nothing."""


class SourceClosedError(CallerError):
    """The source was closed and is asked for an identity."""


# --- a registration, a configuration or the server side has to change -----------------------------------------------


class OperatorError(SpiffeError):
    """Code is right, but something outside it, which a person registers or configures, is not."""


class NoIdentityError(OperatorError):
    """This workload has no identity: the agent denies one, or a context holds bundles and no SVID."""


class InvalidBundleError(OperatorError, ValueError):
    """A trust bundle is malformed, or several bundles contradict each other."""


class ConfigurationError(OperatorError, ValueError):
    """A configuration is wrong; says where, as far as that is known.

    `file`, `line` and `column` are None where there is no such place. Lines and columns count from 1.
    """

    def __init__(
        self, message: str, file: str | None = None, line: int | None = None, column: int | None = None
    ) -> None:
        super().__init__(message, file, line, column)
        self.message = message
        self.file = file
        self.line = line
        self.column = column

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return f"{place}: {self.message}" if place else self.message


class WorkloadAPIError(OperatorError):
    """An agent gave a final answer which is not an identity. `status` is its gRPC status number, if it sent one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message, status)
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return self.message


# --- a certificate is wrong -----------------------------------------------------------------------------------------


class PeerCredentialError(SpiffeError):
    """A credential does not prove the identity it names."""


class InvalidX509SVIDError(PeerCredentialError, ValueError):
    """A certificate, or a chain and its key, break a rule of the X509-SVID standard; also for our own material."""


class NoBundleForTrustDomainError(PeerCredentialError):
    """A certificate names a trust domain of which we hold no bundle: `trust_domain`."""

    def __init__(self, trust_domain: TrustDomain) -> None:
        super().__init__(trust_domain)
        self.trust_domain = trust_domain

    def __str__(self) -> str:
        return (
            f"no bundle for trust domain {self.trust_domain}: "
            f"federate with it (federatesWith in this workload's registration entry), or refuse its peers"
        )


class UntrustedPeerError(PeerCredentialError):
    """A chain does not lead to an authority of the trust domain its own leaf names."""


# --- the peer's rights are not enough -------------------------------------------------------------------------------


class PeerNotAuthorizedError(SpiffeError):
    """The peer proved who it is, and an authorizer refused it.

    `spiffe_id` is who it is, `wanted` what the authorizer accepts, `action` what a person can do about it. All three
    stand in the text, which is for our own operator's eyes and not to be sent to the peer.
    """

    def __init__(self, spiffe_id: SpiffeID, wanted: str, action: str) -> None:
        super().__init__(spiffe_id, wanted, action)
        self.spiffe_id = spiffe_id
        self.wanted = wanted
        self.action = action

    def __str__(self) -> str:
        return f"peer {self.spiffe_id} is not authorized; wanted: {self.wanted}; {self.action}"


# --- nobody has to act: wait and try again --------------------------------------------------------------------------


class RetryableError(SpiffeError):
    """Nothing is wrong that time does not mend."""


class NotReadyError(RetryableError, TimeoutError):
    """No first update has arrived yet. The last failure, if there was one, is `__cause__` and part of the text."""


class UnavailableError(RetryableError):
    """The other side is not there, or asks to be called later."""
