"""How following a bundle endpoint goes, as values: for health endpoints, metrics and people."""

from dataclasses import dataclass
from datetime import datetime

from authsec_sdk.errors import SpiffeError
from authsec_sdk.spiffe import TrustDomain

__all__ = ["EndpointStatus", "FederationStatus"]


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """One endpoint at one moment. Errors stay readable after things are well again, until others take their place."""

    trust_domain: TrustDomain
    url: str
    known: bool = False
    """Whether there is a bundle of the domain: one that was fetched, or the first one that was given."""
    current: bool = False
    """Whether the last attempt succeeded."""
    sequence_number: int | None = None
    last_attempt: datetime | None = None
    last_success: datetime | None = None
    next_attempt: datetime | None = None
    attempts: int = 0
    updates: int = 0
    """How many times the authorities were others than before; the first time counts."""
    rejected: int = 0
    """How many answers were refused: malformed, another domain's, or older than what is known."""
    failures: int = 0
    """How many attempts in a row have failed."""
    last_error: SpiffeError | None = None
    last_error_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FederationStatus:
    """All endpoints of a source at one moment, by trust domain in alphabetical order."""

    endpoints: tuple[EndpointStatus, ...]
    closed: bool

    @property
    def healthy(self) -> bool:
        """Whether there is a bundle of every domain, be it that its endpoint is away now."""
        return not self.closed and all(endpoint.known for endpoint in self.endpoints)

    def of(self, trust_domain: TrustDomain | str) -> EndpointStatus:
        """Return one domain's. KeyError where there is no endpoint for it."""
        name = str(trust_domain)
        for endpoint in self.endpoints:
            if endpoint.trust_domain.name == name:
                return endpoint
        raise KeyError(name)
