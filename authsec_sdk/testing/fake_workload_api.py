"""A Workload API on a real socket that does what a test tells it: rotates, denies, lies, hangs up, is late or gone."""

import asyncio
import contextlib
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

import anyio.from_thread
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream

from authsec_sdk.proto import workload_grpc, workload_pb2
from authsec_sdk.rpc import GRPCError, Peer, Server, ServerLimits, Status, current_call
from authsec_sdk.spiffe import X509SVID, BundleSet, SpiffeID, X509Bundle, X509Context
from authsec_sdk.testing.ca import LeafOptions, TestCA
from authsec_sdk.workloadapi.wire import encode_x509_bundles, encode_x509_context

__all__ = ["FakeWorkloadAPI"]

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


@dataclass(frozen=True, slots=True)
class _Answers:
    """What a new stream gets first: a message, silence (None), or an error."""

    svids: _Raw | None = None
    bundles: _Raw | None = None
    error: GRPCError | None = None


class FakeWorkloadAPI:
    """Serves FetchX509SVID and FetchX509Bundles; all other calls are unimplemented, as at a real agent of old.

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
        self.calls = 0
        """How many streams were ever asked for, refused ones included."""
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
        self._serve(context)

    def send(self, message: workload_pb2.X509SVIDResponse | bytes, *, keep: bool = True) -> None:
        """Send any message at all on the streams of FetchX509SVID; with `keep`, new streams get it too."""
        raw = _Raw(message if isinstance(message, bytes) else message.SerializeToString())
        self._run(self._send, raw, None, keep)

    def send_bundles(self, message: workload_pb2.X509BundlesResponse | bytes, *, keep: bool = True) -> None:
        """Send any message at all on the streams of FetchX509Bundles; with `keep`, new streams get it too."""
        raw = _Raw(message if isinstance(message, bytes) else message.SerializeToString())
        self._run(self._send, None, raw, keep)

    def garbage(self, *, keep: bool = False) -> None:
        """Send bytes that are no message; with `keep`, new streams get them too."""
        self._run(self._send, _Raw(GARBAGE), _Raw(GARBAGE), keep)

    # --- trouble ---------------------------------------------------------------------------------------------------

    def deny(self, message: str = "no identity issued") -> None:
        """Answer PERMISSION_DENIED on open and new streams, until something is set again."""
        self.fail(Status.PERMISSION_DENIED, message)

    def fail(self, status: Status, message: str = "") -> None:
        """Answer with this status on open and new streams, until something is set or `recover` is called."""
        self._run(self._fail, GRPCError(status, message))

    def recover(self) -> None:
        """Serve again what was served before `deny` or `fail`."""
        self._answers = _Answers(self._answers.svids, self._answers.bundles)

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
        self._serve(X509Context(tuple(svids), BundleSet(bundles.values())))

    def _serve(self, context: X509Context) -> None:
        svids = _Raw(encode_x509_context(context).SerializeToString())
        bundles = _Raw(encode_x509_bundles(context.bundles).SerializeToString())
        if self._portal is None:
            self._answers = _Answers(svids, bundles)
        else:
            self._run(self._send, svids, bundles, True)

    async def _send(self, svids: _Raw | None, bundles: _Raw | None, keep: bool) -> None:
        if keep:
            self._answers = _Answers(svids or self._answers.svids, bundles or self._answers.bundles)
        for subscriber in self._streams:
            message = svids if subscriber.wants_svids else bundles
            if message is not None:
                subscriber.news.put_nowait(message)

    async def _fail(self, error: GRPCError) -> None:
        self._answers = _Answers(self._answers.svids, self._answers.bundles, error)
        await self._end_streams(error)

    async def _end_streams(self, error: GRPCError) -> None:
        for subscriber in self._streams:
            subscriber.news.put_nowait(error)

    async def _hang_up(self) -> None:
        for subscriber in self._streams:
            with contextlib.suppress(OSError):
                subscriber.peer.socket.shutdown(socket.SHUT_RDWR)

    async def _subscribe(self, stream: Stream[object, _Raw], *, wants_svids: bool) -> None:
        self.calls += 1
        call = current_call()
        self.metadata = {key: str(value) for key, value in call.metadata.items()}
        if call.metadata.getall("workload.spiffe.io", ()) != ["true"]:
            raise GRPCError(Status.INVALID_ARGUMENT, "security header missing from request")
        await stream.recv_message()
        await asyncio.sleep(self._delay)
        answers = self._answers
        if answers.error is not None:
            raise answers.error
        subscriber = _Subscriber(call.peer, wants_svids)
        first = answers.svids if wants_svids else answers.bundles
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

    def __init__(self, peer: Peer, wants_svids: bool) -> None:
        self.peer = peer
        self.wants_svids = wants_svids
        self.news: asyncio.Queue[_Raw | GRPCError] = asyncio.Queue()


class _Service(workload_grpc.SpiffeWorkloadAPIBase):
    """The two X.509 calls with answers of raw bytes; the rest as generated, which is UNIMPLEMENTED."""

    def __init__(self, fake: FakeWorkloadAPI) -> None:
        self._fake = fake

    def __mapping__(self) -> dict[str, Handler]:
        async def svids(stream: Stream[object, _Raw]) -> None:
            await self._fake._subscribe(stream, wants_svids=True)

        async def bundles(stream: Stream[object, _Raw]) -> None:
            await self._fake._subscribe(stream, wants_svids=False)

        kind = Cardinality.UNARY_STREAM
        return {
            **super().__mapping__(),
            "/SpiffeWorkloadAPI/FetchX509SVID": Handler(svids, kind, workload_pb2.X509SVIDRequest, _Raw),
            "/SpiffeWorkloadAPI/FetchX509Bundles": Handler(bundles, kind, workload_pb2.X509BundlesRequest, _Raw),
        }
