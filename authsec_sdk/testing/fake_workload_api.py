"""A Workload API on a real socket that does what a test tells it: rotates, denies, lies, hangs up, is late or gone."""

import asyncio
import contextlib
import enum
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, Unpack

import anyio.from_thread
from google.protobuf.message import Message
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream

from authsec_sdk.proto import workload_grpc, workload_pb2
from authsec_sdk.rpc import GRPCError, Peer, Server, ServerLimits, Status, current_call
from authsec_sdk.spiffe import X509SVID, BundleSet, SpiffeID, X509Bundle, X509Context
from authsec_sdk.testing.ca import LeafOptions, TestCA
from authsec_sdk.testing.fake_tokens import FakeTokens, Identity
from authsec_sdk.workloadapi.wire import encode_x509_bundles, encode_x509_context

__all__ = ["FakeWorkloadAPI"]

_Request = TypeVar("_Request")

PATIENCE = 30.0
GARBAGE = b"\xff\xff\xff\xff"  # no protobuf message begins with field number 536870911 of wire type 7


@dataclass(frozen=True, slots=True)
class _Raw:
    """A message of which only the bytes are known; what grpclib's codec needs of one."""

    data: bytes

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        return self.data

    def ByteSize(self) -> int:  # noqa: N802 - protobuf's name
        return len(self.data)


@dataclass(frozen=True, slots=True)
class _Issued:
    """An SVID that `rotate` can issue again."""

    ca: TestCA
    path_or_id: str | SpiffeID
    hint: str
    options: LeafOptions


class _Topic(enum.Enum):
    """What a stream is about, by the name of its call."""

    SVIDS = "FetchX509SVID"
    BUNDLES = "FetchX509Bundles"
    JWT_BUNDLES = "FetchJWTBundles"
    WIT_SVIDS = "FetchWITSVID"
    WIT_BUNDLES = "FetchWITBundles"


_WIT = (_Topic.WIT_SVIDS, _Topic.WIT_BUNDLES)


@dataclass(frozen=True, slots=True)
class _Answers:
    """What a new stream gets first: the message of its topic, silence where there is none, or an error."""

    messages: Mapping[_Topic, _Raw] = field(default_factory=dict)
    error: GRPCError | None = None


class FakeWorkloadAPI:
    """Serves X.509-SVIDs, JWT-SVIDs, WIT-SVIDs and their bundles; `tokens` says how it does about tokens.

    Without a `path` the socket is in a directory of its own; a path that begins with `@` is an abstract name.
    Runs in a thread of its own, so that tests of every kind can use it, and every method takes effect before it
    returns. Until something is set, streams stay open and silent. Like an agent it refuses calls without the security
    header, and it attests nobody::

        with FakeWorkloadAPI() as fake:
            fake.issue(TestCA("example.org"), "/payments")
            source = X509Source(fake.address)
    """

    def __init__(self, path: str | Path | None = None, *, tcp: bool = False) -> None:
        self._directory: str | None = None
        if path is None and not tcp:
            # Not pytest's tmp_path: the path of a socket has to be shorter than many of those.
            self._directory = tempfile.mkdtemp(prefix="fake-agent-", dir="/tmp")
            path = Path(self._directory) / "api.sock"
        self._path = None if path is None else str(path)
        self._port = 0
        self._issued: list[_Issued] = []
        self._federated: list[TestCA | X509Bundle] = []
        self._answers = _Answers()
        self._delay = 0.0
        self._streams: set[_Subscriber] = set()
        self._server: Server | None = None
        self._closing = contextlib.ExitStack()
        self._portal: anyio.from_thread.BlockingPortal | None = None
        self.tokens = FakeTokens(self._send_tokens)
        self.calls = 0
        """How many calls were ever made, refused ones included."""
        self.metadata: dict[str, str] = {}
        """What the last call carried beside its message."""

    # --- life ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._portal = self._closing.enter_context(anyio.from_thread.start_blocking_portal())
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        self._closing.close()
        self._portal = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def address(self) -> str:
        """What `SPIFFE_ENDPOINT_SOCKET` would hold."""
        if self._path is not None and self._path.startswith("@"):
            return f"unix-abstract:{self._path[1:]}"
        return f"tcp://127.0.0.1:{self._port}" if self._path is None else f"unix://{self._path}"

    def start(self) -> None:
        """Listen, at the same address as before (a Unix socket gets a new inode). Again, a no-op."""
        if self._server is None:
            self._run(self._start)

    def stop(self) -> None:
        """Be gone: hang up on everybody and remove the socket. Again, a no-op."""
        if self._server is not None:
            self._run(self._stop)

    # --- what is served --------------------------------------------------------------------------------------------

    def issue(
        self, ca: TestCA, /, path_or_id: str | SpiffeID = "/workload", *, hint: str = "", **options: Unpack[LeafOptions]
    ) -> None:
        """Serve one more SVID of this CA, beside those there are, and send the update."""
        self._issued.append(_Issued(ca, path_or_id, hint, options))
        self._send_issued()

    def federate(self, foreign: TestCA | X509Bundle) -> None:
        """Serve one more foreign bundle with what was issued, and send the update."""
        self._federated.append(foreign)
        self._send_issued()

    def rotate(self, *, root: bool = False) -> None:
        """Issue everything again, with new keys, and send the update; `root` gives every CA a new root before."""
        for ca in self._cas() if root else ():
            ca.rotate()
        self._send_issued()

    def remove_root(self) -> None:
        """Drop the old roots of every CA from the bundles, issue everything again, and send the update."""
        for ca in self._cas():
            ca.remove_old_roots()
        self._send_issued()

    def set(self, *svids: X509SVID, bundles: Iterable[X509Bundle]) -> None:
        """Serve exactly this and send the update. Bundles of domains without an SVID are federated ones."""
        self.set_context(X509Context(svids, BundleSet(bundles)))

    def set_context(self, context: X509Context) -> None:
        """Serve exactly this context and send the update. What was issued before is not issued again."""
        self._issued, self._federated = [], []
        self.tokens.identities, self.tokens.foreign = [], []
        self._serve(context, {})

    def send(self, message: workload_pb2.X509SVIDResponse | bytes, *, keep: bool = True) -> None:
        """Send any message at all on the streams of FetchX509SVID; with `keep`, new streams get it too."""
        self._run(self._send, {_Topic.SVIDS: _raw(message)}, keep)

    def send_bundles(self, message: workload_pb2.X509BundlesResponse | bytes, *, keep: bool = True) -> None:
        """Send any message at all on the streams of FetchX509Bundles; with `keep`, new streams get it too."""
        self._run(self._send, {_Topic.BUNDLES: _raw(message)}, keep)

    def send_jwt_bundles(self, message: workload_pb2.JWTBundlesResponse | bytes, *, keep: bool = True) -> None:
        """Send any message at all on the streams of FetchJWTBundles; with `keep`, new streams get it too."""
        self._run(self._send, {_Topic.JWT_BUNDLES: _raw(message)}, keep)

    def send_wit_svids(self, message: workload_pb2.WITSVIDResponse | bytes, *, keep: bool = True) -> None:
        """Send any message at all on the streams of FetchWITSVID; with `keep`, new streams get it too."""
        self._run(self._send, {_Topic.WIT_SVIDS: _raw(message)}, keep)

    def garbage(self, *, keep: bool = False) -> None:
        """Send bytes that are no message; with `keep`, new streams get them too."""
        self._run(self._send, {topic: _Raw(GARBAGE) for topic in _Topic}, keep)

    # --- trouble ---------------------------------------------------------------------------------------------------

    def deny(self, message: str = "no identity issued") -> None:
        """Answer PERMISSION_DENIED on open and new streams, until something is set again."""
        self.fail(Status.PERMISSION_DENIED, message)

    def fail(self, status: Status, message: str = "") -> None:
        """Answer with this status on open and new streams, until something is set or `recover` is called."""
        self._run(self._fail, GRPCError(status, message))

    def recover(self) -> None:
        """Serve again what was served before `deny` or `fail`."""
        self._answers = _Answers(self._answers.messages)

    def end_streams(self, status: Status = Status.OK, message: str = "") -> None:
        """End the open streams with this status; new ones are served."""
        self._run(self._end_streams, GRPCError(status, message))

    def hang_up(self) -> None:
        """Break the open connections in the middle, without a word of HTTP/2; new ones are served."""
        self._run(self._hang_up)

    def delay(self, seconds: float) -> None:
        """Answer new streams only after so long."""
        self._delay = seconds

    # --- watching --------------------------------------------------------------------------------------------------

    @property
    def streams(self) -> int:
        """How many streams are open and answered now."""
        return len(self._streams)

    def wait_until(self, condition: Callable[[], bool], timeout: float = PATIENCE) -> None:
        """Block until the condition holds, such as `lambda: fake.streams == 1`.

        Raises:
            TimeoutError: it did not in time.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the condition did not come true within {timeout:g} s")
            time.sleep(0.005)

    # --- in the thread ---------------------------------------------------------------------------------------------

    def _run(self, function: Callable[..., object], *args: object) -> None:
        if self._portal is None:
            raise RuntimeError("FakeWorkloadAPI is a context manager: use it inside `with`")
        self._portal.call(function, *args)

    async def _start(self) -> None:
        server = Server([_Service(self)], limits=ServerLimits.local())
        if self._path is None:
            _, self._port = await server.listen_tcp("127.0.0.1", self._port)
        else:
            await server.listen_unix("\0" + self._path[1:] if self._path.startswith("@") else self._path)
        self._server = server

    async def _stop(self) -> None:
        assert self._server is not None
        await self._server.close()
        self._server = None

    def _cas(self) -> list[TestCA]:
        if not self._issued:
            raise RuntimeError("nothing was issued by a CA: `set` serves as it is, `issue` can be repeated")
        return list(dict.fromkeys(issued.ca for issued in self._issued))

    def _send_issued(self) -> None:
        svids = [one.ca.svid(one.path_or_id, hint=one.hint, **one.options) for one in self._issued]
        bundles = {ca.trust_domain: ca.bundle() for ca in self._cas()}
        for foreign in self._federated:
            bundles.setdefault(foreign.trust_domain, foreign.bundle() if isinstance(foreign, TestCA) else foreign)
        self.tokens.identities = [Identity(one.ca, one.path_or_id, one.hint) for one in self._issued]
        self.tokens.foreign = [foreign for foreign in self._federated if isinstance(foreign, TestCA)]
        self._serve(X509Context(tuple(svids), BundleSet(bundles.values())), self._token_messages())

    def _send_tokens(self) -> None:
        self._send_or_keep(self._token_messages())

    def _token_messages(self) -> dict[_Topic, _Raw]:
        tokens = self.tokens
        return {
            _Topic.JWT_BUNDLES: _Raw(tokens.jwt_bundles_message()),
            _Topic.WIT_SVIDS: _Raw(tokens.wit_svids_message()),
            _Topic.WIT_BUNDLES: _Raw(tokens.wit_bundles_message()),
        }

    def _serve(self, context: X509Context, tokens: Mapping[_Topic, _Raw]) -> None:
        svids = _raw(encode_x509_context(context))
        bundles = _raw(encode_x509_bundles(context.bundles))
        self._send_or_keep({_Topic.SVIDS: svids, _Topic.BUNDLES: bundles, **tokens})

    def _send_or_keep(self, messages: Mapping[_Topic, _Raw]) -> None:
        if self._portal is None:
            self._answers = _Answers({**self._answers.messages, **messages})
        else:
            self._run(self._send, messages, True)

    async def _send(self, messages: Mapping[_Topic, _Raw], keep: bool) -> None:
        if keep:
            self._answers = _Answers({**self._answers.messages, **messages})
        for subscriber in self._streams:
            message = messages.get(subscriber.topic)
            if message is not None:
                subscriber.news.put_nowait(message)

    async def _fail(self, error: GRPCError) -> None:
        self._answers = _Answers(self._answers.messages, error)
        await self._end_streams(error)

    async def _end_streams(self, error: GRPCError) -> None:
        for subscriber in self._streams:
            subscriber.news.put_nowait(error)

    async def _hang_up(self) -> None:
        for subscriber in self._streams:
            with contextlib.suppress(OSError):
                subscriber.peer.socket.shutdown(socket.SHUT_RDWR)

    async def _admit(self, stream: Stream[_Request, _Raw]) -> _Request:
        """Judge a call as every call is judged, and return its request."""
        self.calls += 1
        call = current_call()
        self.metadata = {key: str(value) for key, value in call.metadata.items()}
        if call.metadata.getall("workload.spiffe.io", ()) != ["true"]:
            raise GRPCError(Status.INVALID_ARGUMENT, "security header missing from request")
        request = await stream.recv_message()
        assert request is not None
        await asyncio.sleep(self._delay)
        if self._answers.error is not None:
            raise self._answers.error
        return request

    async def _answer(self, stream: Stream[_Request, _Raw], answer: Callable[[_Request], bytes]) -> None:
        await stream.send_message(_Raw(answer(await self._admit(stream))))

    async def _subscribe(self, stream: Stream[object, _Raw], topic: _Topic) -> None:
        await self._admit(stream)
        if topic in _WIT and not self.tokens.wit:
            raise GRPCError(Status.UNIMPLEMENTED, f"method {topic.value} not implemented")
        subscriber = _Subscriber(current_call().peer, topic)
        first = self._answers.messages.get(topic)
        if first is not None:
            subscriber.news.put_nowait(first)
        self._streams.add(subscriber)
        try:
            while True:
                match await subscriber.news.get():
                    case _Raw() as message:
                        await stream.send_message(message)
                    case GRPCError(status=Status.OK):
                        return
                    case error:
                        raise error
        finally:
            self._streams.discard(subscriber)


class _Subscriber:
    """One open stream and what it is still to be told."""

    def __init__(self, peer: Peer, topic: _Topic) -> None:
        self.peer = peer
        self.topic = topic
        self.news: asyncio.Queue[_Raw | GRPCError] = asyncio.Queue()


class _Service(workload_grpc.SpiffeWorkloadAPIBase):
    """All calls, with answers of raw bytes."""

    def __init__(self, fake: FakeWorkloadAPI) -> None:
        self._fake = fake

    def __mapping__(self) -> dict[str, Handler]:
        fake = self._fake

        def streaming(topic: _Topic, request: type) -> Handler:
            async def serve(stream: Stream[object, _Raw]) -> None:
                await fake._subscribe(stream, topic)

            return Handler(serve, Cardinality.UNARY_STREAM, request, _Raw)

        async def fetch(stream: Stream[workload_pb2.JWTSVIDRequest, _Raw]) -> None:
            await fake._answer(stream, fake.tokens.fetch)

        async def validate(stream: Stream[workload_pb2.ValidateJWTSVIDRequest, _Raw]) -> None:
            await fake._answer(stream, fake.tokens.validate)

        once = Cardinality.UNARY_UNARY
        handlers = {
            _Topic.SVIDS.value: streaming(_Topic.SVIDS, workload_pb2.X509SVIDRequest),
            _Topic.BUNDLES.value: streaming(_Topic.BUNDLES, workload_pb2.X509BundlesRequest),
            _Topic.JWT_BUNDLES.value: streaming(_Topic.JWT_BUNDLES, workload_pb2.JWTBundlesRequest),
            _Topic.WIT_SVIDS.value: streaming(_Topic.WIT_SVIDS, workload_pb2.WITSVIDRequest),
            _Topic.WIT_BUNDLES.value: streaming(_Topic.WIT_BUNDLES, workload_pb2.WITBundlesRequest),
            "FetchJWTSVID": Handler(fetch, once, workload_pb2.JWTSVIDRequest, _Raw),
            "ValidateJWTSVID": Handler(validate, once, workload_pb2.ValidateJWTSVIDRequest, _Raw),
        }
        return {f"/SpiffeWorkloadAPI/{name}": handler for name, handler in handlers.items()}


def _raw(message: Message | bytes) -> _Raw:
    return _Raw(message if isinstance(message, bytes) else message.SerializeToString())
