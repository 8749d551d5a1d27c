"""What a server and a channel put up with: every bound by name, with the reason for its default."""

from dataclasses import dataclass
from typing import Any, Self, TypedDict

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds of one `Server`. All times are seconds; None switches a bound off where the type allows it.

    Go's defaults, for comparison: 4 MiB messages, 100 streams, 120 s for a handshake, 16 KiB of headers, no bound on
    connections, their age or their idleness.
    """

    #: Connections at once. Fewer when RLIMIT_NOFILE is lower. When full, the longest idle connection of the peer with
    #: the most connections makes room; if none is idle the newcomer is closed.
    max_connections: int = 4096
    #: Connections at once from one IP address (IPv6: one /64) or one user ID.
    max_connections_per_peer: int = 1024
    #: TLS handshakes and HTTP/2 prefaces under way. When full, the oldest of the peer with the most is dropped.
    max_handshakes: int = 256
    #: From accept to the end of the TLS handshake.
    handshake_timeout: float = 10.0
    #: From there to the client's preface; also from the first byte of any frame or header block to its last.
    header_timeout: float = 10.0
    #: A connection without a call is asked to leave after this long.
    max_idle: float | None = 300.0
    #: Advertised and enforced; calls whose handler still cleans up count. One more is refused, not the connection.
    max_concurrent_streams: int = 100
    #: Calls at once over all connections.
    max_calls: int = 16384
    #: One request message; the answer is RESOURCE_EXHAUSTED before a byte of it is gathered.
    max_receive_bytes: int = 4 * MIB
    #: Gathered but incomplete messages of one connection (more: RESOURCE_EXHAUSTED), and of all of them (more: the
    #: connection that holds the most is dropped).
    max_buffered_per_connection: int = 16 * MIB
    max_buffered: int = 256 * MIB
    #: Decoded header list of one call (advertised; hpack counts 32 bytes a field); twice as much undecoded.
    max_header_bytes: int = 16 * 1024
    #: What may wait to be sent to a peer that asks for answers (PING, SETTINGS) and does not read them.
    max_unsent_bytes: int = 2 * MIB
    #: Streams the client may open and reset (or have refused), within `reset_window`.
    max_resets: int = 200
    reset_window: float = 30.0
    #: Frames that carry nothing (PING, SETTINGS, PRIORITY, empty DATA, unknown kinds, needless WINDOW_UPDATE), within
    #: `control_window`. Each DATA frame we send allows two more.
    max_control_frames: int = 2000
    control_window: float = 10.0
    #: Keepalive enforcement: PINGs closer together than this without an answer of ours in between are strikes.
    min_ping_interval: float = 5.0
    max_ping_strikes: int = 4
    #: After this long (each connection ±10 %, so they do not all return at once) a connection is asked to leave:
    #: GOAWAY, PING, GOAWAY; calls in flight have `age_grace` to end.
    max_connection_age: float | None = 180.0
    age_grace: float = 30.0
    #: Without a byte from the client for this long, ask with a PING; without an answer for this long, close.
    keepalive_time: float | None = 300.0
    keepalive_timeout: float = 20.0
    #: How long a handler may take for a call with one answer; the client's own deadline holds if it is shorter.
    handler_timeout: float | None = 60.0
    #: The same for calls whose answer is a stream.
    stream_timeout: float | None = None
    #: How long a handler waits for the client's next message once it asks for it.
    receive_timeout: float | None = 60.0
    #: How long one message may wait for a client that does not read.
    send_timeout: float | None = 60.0
    #: Flow control: what one connection, and one of its streams, may send ahead of a handler that reads it.
    connection_window: int = 1 * MIB
    stream_window: int = 512 * 1024

    @classmethod
    def local(cls, **overrides: Any) -> Self:
        """Bounds for a Unix socket with calls that never end: no age, no idleness, no keepalive (the kernel knows)."""
        values: dict[str, Any] = {"max_connection_age": None, "max_idle": None, "keepalive_time": None}
        return cls(**(values | overrides))


class ChannelOptions(TypedDict, total=False):
    """Keyword arguments of every `Channel` constructor."""

    #: One message of the server (default 4 MiB); a longer one ends the call with RESOURCE_EXHAUSTED.
    max_receive_bytes: int
    #: One connection attempt: address, TLS handshake and the server's SETTINGS together (default 20).
    connect_timeout: float
    #: The longest wait between two attempts at one address (default 5); 0: whoever calls does the waiting.
    max_backoff: float
    #: PING after so many seconds without a byte from the server while calls are in flight (default None: never).
    #: Servers of grpc-go hang up on PINGs closer than 5 minutes apart.
    keepalive: float | None
    #: How long an answer to that PING may take (default 20).
    keepalive_timeout: float
