"""What a credential composer is: an operator's own code that has a say in what certificates and tokens carry.

Another package adds one by an entry point of the group `icp_server.credential_composers`, which names a function from
`plugin_data` (`Fields`) to a `CredentialComposer`. What holds whatever it does: SPIFFE ID, key, key usages and issuer
are not its business, nothing lives longer than without it, and an answer that breaks a rule ends the signing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from cryptography import x509

from authsec_sdk.hcl import Fields
from authsec_sdk.spiffe import SpiffeID


@dataclass(frozen=True, slots=True)
class CAAttributes:
    """What a composer may change of a CA certificate."""

    subject: x509.Name
    not_after: datetime
    """May only be earlier."""
    extensions: tuple[x509.Extension[x509.ExtensionType], ...] = ()
    """Beside those every CA certificate here has; not critical."""


@dataclass(frozen=True, slots=True)
class X509Attributes:
    """What a composer may change of an X509-SVID."""

    subject: x509.Name
    dns_names: tuple[str, ...]
    not_after: datetime
    """May only be earlier."""
    extensions: tuple[x509.Extension[x509.ExtensionType], ...] = ()
    """Beside those every X509-SVID here has; not critical."""


class CredentialComposer:
    """Changes nothing; a composer overrides what it is about. Called while signing: no waiting, no IO."""

    def server_ca(self, attributes: CAAttributes) -> CAAttributes:
        """A CA certificate: this server's own authority, or a downstream server's."""
        return attributes

    def server_svid(self, spiffe_id: SpiffeID, attributes: X509Attributes) -> X509Attributes:
        """This server's own X509-SVID."""
        return attributes

    def agent_svid(self, spiffe_id: SpiffeID, attributes: X509Attributes) -> X509Attributes:
        """An agent's X509-SVID."""
        return attributes

    def workload_svid(self, spiffe_id: SpiffeID, attributes: X509Attributes) -> X509Attributes:
        """A workload's X509-SVID, signed for an entry or minted by an administrator."""
        return attributes

    def workload_jwt_svid(self, spiffe_id: SpiffeID, claims: Mapping[str, Any]) -> Mapping[str, Any]:
        """The claims of a workload's JWT-SVID. `sub`, `aud`, `iat` must stay, and so must an `iss`."""
        return claims


ReadComposer: TypeAlias = Callable[[Fields], CredentialComposer]
"""Reads a composer's ``plugin_data``, every key of it. Raises ConfigurationError. What an entry point names."""
