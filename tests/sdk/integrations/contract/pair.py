"""What an integration gives to be held to the contract: how it is served, and how it is called."""

import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from integration_contract.bare import bare_server, call_without_certificate

from authsec_sdk.spiffe import SpiffeID


@dataclass(frozen=True)
class Exchange:
    """One call that was answered: who the client says the server is, and who the server said the client is.

    None stands for a side that cannot tell; a side under test must.
    """

    peer: SpiffeID | None
    caller: SpiffeID | None


class Served(Protocol):
    """A server that runs: where on 127.0.0.1, and how many calls reached the application behind it."""

    port: int
    hits: int


class Pair(ABC):
    """A client and a server that speak one protocol; one of them, or both, is the integration under test.

    Everything here blocks: what runs on an event loop brings the loop along (`LoopThread`).
    """

    # Row of the contract -> why this stack cannot keep it, with the test of the nearest guarantee.
    cannot: ClassVar[dict[str, str]] = {}

    @abstractmethod
    def serve(self, source: Any, authorizer: Any, on_rejected: Any = None) -> AbstractContextManager[Served]:
        """Serve until left. What a call runs into counts as a hit."""

    @abstractmethod
    def connect(
        self, port: int, source: Any, authorizer: Any, on_rejected: Any = None
    ) -> AbstractContextManager[Callable[[], Exchange]]:
        """Make one client, used until left, and give what calls the server over a *new* connection each time.

        It raises whatever the framework raises when the call fails, soon.
        """

    # For protocols that begin with TLS nothing below has to be overridden.

    def impostor(self, context: ssl.SSLContext) -> AbstractContextManager[Any]:
        """Serve with an ordinary TLS context and hang up: `.port`, `.connections` that came, `.received` from them."""
        return bare_server(context)

    def call_without_certificate(self, port: int, context: ssl.SSLContext) -> None:
        """Call with an ordinary TLS context that presents nothing; may raise `OSError`, or not."""
        call_without_certificate(port, context)
