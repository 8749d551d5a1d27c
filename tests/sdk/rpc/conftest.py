"""An echo service on our server, a peer that speaks raw HTTP/2, and a server in a process of its own to be attacked."""

import asyncio
import datetime
import importlib.util
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hpack import Decoder, Encoder
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame, SettingsFrame

from authsec_sdk.rpc import Channel, GRPCError, Server, ServerLimits

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory whose sockets fit into a socket address."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        yield Path(directory)


def load_echo() -> Any:
    source = Path(__file__).with_name("echo_service.py")
    spec = importlib.util.spec_from_file_location("echo_service", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class TLSFiles:
    """A CA, and PEM files of a server and a client from it."""

    ca: Path
    server: tuple[Path, Path]
    client: tuple[Path, Path]
    stranger: tuple[Path, Path]

    def server_context(self) -> ssl.SSLContext:
        """Asks for a client certificate and does not insist."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.server)
        context.load_verify_locations(self.ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.set_alpn_protocols(["h2"])
        return context

    def client_context(self, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.ca)
        context.set_alpn_protocols(["h2"])
        if pair is not None:
            context.load_cert_chain(*pair)
        return context


def _certificate(name: str, issuer: Any = None) -> tuple[x509.Certificate, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    signer_name, signer_key = (subject, key) if issuer is None else (issuer[0].subject, issuer[1])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://x/{name}")]), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer_key.public_key()), False)
    )
    return builder.sign(signer_key, hashes.SHA256()), key


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TLSFiles:
    folder = tmp_path_factory.mktemp("tls")

    def save(name: str, pair: tuple[x509.Certificate, Any]) -> tuple[Path, Path]:
        cert, key = folder / f"{name}.pem", folder / f"{name}.key"
        cert.write_bytes(pair[0].public_bytes(serialization.Encoding.PEM))
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        key.write_bytes(pair[1].private_bytes(pem, pkcs8, serialization.NoEncryption()))
        return cert, key

    ca, other = _certificate("ca"), _certificate("other-ca")
    return TLSFiles(
        save("ca", ca)[0],
        save("server", _certificate("server", ca)),
        save("client", _certificate("client", ca)),
        save("stranger", _certificate("stranger", other)),
    )


@pytest.fixture(scope="session")
def echo() -> Any:
    return load_echo()


@dataclass
class Served:
    """A server of ours in this process, its handlers, and where it listens."""

    server: Server
    service: Any
    path: str


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture
def serve(echo: Any, short_dir: Path) -> Serve:
    """`async with serve(max_idle=1, interceptor=…) as served`: limits and options of the server by name."""

    @asynccontextmanager
    async def run(*, interceptor: Any = None, on_accept: Any = None, **limits: Any) -> AsyncIterator[Served]:
        service = echo.Echo()
        server = Server([service], limits=ServerLimits(**limits), interceptor=interceptor, on_accept=on_accept)
        async with server:
            path = short_dir / f"s{len(list(short_dir.iterdir()))}"
            await server.listen_unix(path)
            yield Served(server, service, str(path))

    return run


class RawClient:
    """A client that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.ended = False

    @classmethod
    @asynccontextmanager
    async def connect(cls, path: str, *, preface: bool = True, **settings: int) -> AsyncIterator["RawClient"]:
        client = cls(*await asyncio.open_unix_connection(path))
        try:
            if preface:
                numbers = {getattr(SettingsFrame, name): value for name, value in settings.items()}
                client.write(PREFACE, SettingsFrame(0, settings=numbers))
            yield client
        finally:
            client.writer.transport.abort()
            await asyncio.sleep(0)

    def write(self, *parts: bytes | Frame) -> None:
        self.writer.write(b"".join(part if isinstance(part, bytes) else part.serialize() for part in parts))

    async def drain(self) -> None:
        await self.writer.drain()

    def block(self, path: str, *extra: tuple[str, str]) -> bytes:
        headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x")]
        headers += [("te", "trailers"), ("content-type", "application/grpc")]
        return self.encoder.encode([*headers, *extra])

    def request(self, stream: int, path: str, *extra: tuple[str, str], end: bool = False) -> HeadersFrame:
        flags = ["END_HEADERS", *(["END_STREAM"] if end else [])]
        return HeadersFrame(stream, data=self.block(path, *extra), flags=flags)

    @staticmethod
    def data(stream: int, data: bytes, *, end: bool = False) -> DataFrame:
        return DataFrame(stream, data=data, flags=["END_STREAM"] if end else [])

    @staticmethod
    def message(data: bytes) -> bytes:
        return b"\0" + len(data).to_bytes(4, "big") + data

    async def frame(self) -> Frame | None:
        """The next frame; None when the server has closed the connection."""
        try:
            header = await self.reader.readexactly(9)
            frame, length = Frame.parse_frame_header(memoryview(header))
            frame.parse_body(memoryview(await self.reader.readexactly(length)))
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended = True
            return None
        return frame

    async def until(self, *kinds: type[Frame], stream: int | None = None) -> Frame:
        """The next frame of these kinds; fails if the server closes first or takes too long."""
        with anyio.fail_after(20):
            while (frame := await self.frame()) is not None:
                if isinstance(frame, HeadersFrame | ContinuationFrame):
                    frame.fields = dict(self.decoder.decode(frame.data))
                if isinstance(frame, kinds) and stream in (None, frame.stream_id):
                    return frame
        raise AssertionError(f"the server closed the connection before a {kinds}")

    async def closed(self) -> list[Frame]:
        """Everything until the server closes the connection."""
        frames = []
        with anyio.fail_after(20):
            while (frame := await self.frame()) is not None:
                frames.append(frame)
        return frames


@pytest.fixture(scope="session")
def raw() -> type[RawClient]:
    return RawClient


@dataclass
class Victim:
    """A server of ours in a process of its own."""

    pid: int
    path: str
    good_calls: int = 0
    failures: list[str] = field(default_factory=list)

    def _status(self, key: str) -> int:
        match = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        assert match is not None
        return int(match[1]) * 1024

    @property
    def peak(self) -> int:
        """Peak resident bytes since `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self) -> int:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        return self._status("VmRSS")

    @property
    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


PROGRAM = """
import asyncio, json, resource, sys
sys.path.insert(0, sys.argv[1])
from echo_service import Echo
from authsec_sdk.rpc import Server, ServerLimits
async def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    async with Server([Echo()], limits=ServerLimits(**json.loads(sys.argv[3]))) as server:
        await server.listen_unix(sys.argv[2])
        print("READY", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
"""


@pytest.fixture
def attack(echo: Any, short_dir: Path) -> Callable[..., Awaitable[Victim]]:
    """`await attack(what, limit, **limits)`: run `what(victim)` against a server while a well-behaved caller calls it.

    Fails if a call of that caller does, or if the server's peak memory grows by more than `limit` bytes.
    """

    async def run(what: Callable[[Victim], Awaitable[None]], limit: int = 48 << 20, **limits: Any) -> Victim:
        import json

        path = str(short_dir / "victim")
        command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), path, json.dumps(limits)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(Path.cwd())}
        )
        try:
            assert process.stdout is not None
            assert await anyio.to_thread.run_sync(process.stdout.readline) == b"READY\n"
            victim = Victim(process.pid, path)
            async with Channel.unix(path) as channel:
                stub = echo.EchoStub(channel)
                for _ in range(20):
                    await stub.Unary(echo.Bytes(value=bytes(1000)), timeout=30)
                before = victim.forget_peak()
                async with anyio.create_task_group() as group:

                    async def good() -> None:
                        while True:
                            try:
                                await stub.Unary(echo.Bytes(value=bytes(1000)), timeout=20)
                            except GRPCError as error:
                                victim.failures.append(repr(error))
                            victim.good_calls += 1
                            await anyio.sleep(0.005)

                    group.start_soon(good)
                    with anyio.fail_after(90):
                        await what(victim)
                        calls = victim.good_calls
                        while victim.good_calls < calls + 5:
                            await anyio.sleep(0.01)
                    group.cancel_scope.cancel()
            grown = victim.peak - before
            assert not victim.failures
            assert grown < limit, f"the server grew by {grown >> 20} MiB"
            return victim
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()

    return run
