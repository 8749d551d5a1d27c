"""Handshakes in memory, step by step or at once: no socket, no thread, no event loop."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Begun", "Pipe", "begin", "shake"]

_ROUNDS = 10


@dataclass
class Pipe:
    """Both ends of a connection in memory, as far as the handshake came."""

    client: Any
    server: Any
    client_error: BaseException | None
    server_error: BaseException | None
    move: Callable[[], None]

    @property
    def done(self) -> bool:
        """Whether both sides are content."""
        return self.client_error is None and self.server_error is None

    def check(self) -> "Pipe":
        """Return this, or raise what the client met, or else the server."""
        for error in (self.client_error, self.server_error):
            if error is not None:
                raise error
        return self

    def to_server(self, data: bytes = b"ping") -> bytes:
        """Send from the client; returns what the server read."""
        self.client.write(data)
        self.move()
        received: bytes = self.server.read()
        return received

    def to_client(self, data: bytes = b"pong") -> bytes:
        """Send from the server; returns what the client read."""
        self.server.write(data)
        self.move()
        received: bytes = self.client.read()
        return received


@dataclass
class Begun:
    """A handshake in memory that can be driven step by step: `do_handshake` on either side, then `move`."""

    client: Any
    server: Any
    move: Callable[[], None]

    def finish(self) -> Pipe:
        """Drive both sides until each is content or has met an error; raises nothing."""
        errors: dict[str, BaseException | None] = {}
        for _ in range(_ROUNDS):
            for name, side in (("client", self.client), ("server", self.server)):
                if name in errors:
                    continue
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                except Exception as error:  # noqa: BLE001 - the verdict is what tests ask about
                    errors[name] = error
                else:
                    errors[name] = None
                finally:
                    self.move()
        unfinished = TimeoutError("the handshake did not finish: the other side ended it")
        return Pipe(
            self.client,
            self.server,
            errors.get("client", unfinished),
            errors.get("server", unfinished),
            self.move,
        )


def begin(server_context: ssl.SSLContext, client_context: ssl.SSLContext, **client_options: Any) -> Begun:
    """Connect the two in memory without a step of the handshake; `client_options` are of `wrap_bio`."""
    to_client, from_client, to_server, from_server = (ssl.MemoryBIO() for _ in range(4))

    def move() -> None:
        if data := from_client.read():
            to_server.write(data)
        if data := from_server.read():
            to_client.write(data)

    options = {"server_hostname": "ignored.invalid", **client_options}
    return Begun(
        client_context.wrap_bio(to_client, from_client, **options),
        server_context.wrap_bio(to_server, from_server, server_side=True),
        move,
    )


def shake(server_context: ssl.SSLContext, client_context: ssl.SSLContext, **client_options: Any) -> Pipe:
    """Connect the two in memory and shake hands; what either side met is in the result."""
    return begin(server_context, client_context, **client_options).finish()
