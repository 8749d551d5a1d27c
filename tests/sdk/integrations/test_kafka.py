"""The contract of every integration, for aiokafka, against a broker that speaks as much of the protocol as it takes."""

import asyncio
import os
import re
import ssl
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.admin import ApiVersionResponse_v0
from aiokafka.protocol.metadata import MetadataResponse_v1
from integration_contract.loops import LoopThread
from integration_contract.pair import Exchange, Pair

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.errors import CallerError
from authsec_sdk.integrations.kafka import (
    broker_spiffe_ids,
    mtls_admin_client,
    mtls_consumer,
    mtls_options,
    mtls_producer,
)
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.testing import FakeWorkloadAPI
from authsec_sdk.tls import mtls_server_context, peer_spiffe_id

Row = Callable[[Pair], None]
NODE = 7
ROOT = Path(__file__).resolve().parents[3]


class Broker:
    """One broker that says which versions it speaks and who is in the cluster; a topic carries its caller's name."""

    def __init__(self) -> None:
        self.port = self.hits = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, context: ssl.SSLContext) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            caller = peer_spiffe_id(writer.transport)
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                request = await reader.readexactly(size)
                api_key, _, correlation = struct.unpack_from(">hhi", request)
                self.hits += request.endswith(b"\xff\xff\xff\xff")  # all topics: bootstrapping asks for none
                answer = struct.pack(">i", correlation) + self._answer(api_key, str(caller))
                writer.write(struct.pack(">i", len(answer)) + answer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    def _answer(self, api_key: int, caller: str) -> bytes:
        if api_key == ApiVersionResponse_v0.API_KEY:
            return bytes(ApiVersionResponse_v0(error_code=0, api_versions=[(3, 1, 1), (18, 0, 0)]).encode())
        topic = (0, caller.removeprefix("spiffe://").replace("/", "-"), False, [(0, 0, NODE, [NODE], [NODE])])
        return bytes(
            MetadataResponse_v1(
                brokers=[(NODE, "127.0.0.1", self.port, None)], controller_id=NODE, topics=[topic]
            ).encode()
        )


class KafkaPair(Pair):
    def __init__(self, loop: str) -> None:
        self._loop = loop

    @contextmanager
    def serve(self, source: Any, authorizer: Any, on_rejected: Any = None) -> Iterator[Broker]:
        broker = Broker()
        with LoopThread(self._loop) as thread:
            thread.run(broker.start, mtls_server_context(source, authorizer, on_rejected=on_rejected))
            try:
                yield broker
            finally:
                thread.run(broker.stop)

    @contextmanager
    def connect(
        self, port: int, source: Any, authorizer: Any, on_rejected: Any = None
    ) -> Iterator[Callable[[], Exchange]]:
        options = mtls_options(source, authorizer, on_rejected=on_rejected)

        async def call() -> Exchange:
            client = AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{port}", **options)
            try:
                await client.bootstrap()
                assert await client.ready(NODE)
                [topic] = (await client.fetch_all_metadata()).topics()
                return Exchange(broker_spiffe_ids(client)[NODE], SpiffeID.parse("spiffe://" + topic.replace("-", "/")))
            finally:
                await client.close()

        with LoopThread(self._loop) as thread:
            yield lambda: thread.run(call)


@pytest.fixture(params=["asyncio", "uvloop"])
def pair(request: pytest.FixtureRequest) -> KafkaPair:
    return KafkaPair(request.param)


def test_client_contract(client_row: Row, pair: KafkaPair) -> None:
    client_row(pair)


def test_rotation_under_load(load_row: Row, pair: KafkaPair) -> None:
    load_row(pair)


def run(loop: str, function: Callable[..., Any], *args: Any) -> Any:
    with LoopThread(loop) as thread:
        return thread.run(function, *args)


def test_a_refused_broker_is_one_that_cannot_be_reached_and_the_hook_hears_why(world: Any, pair: KafkaPair) -> None:
    heard: list[Any] = []

    async def start(port: int) -> None:
        producer = mtls_producer(
            world.frontend,
            authorize_id("spiffe://example.org/orders"),
            on_rejected=heard.append,
            bootstrap_servers=f"127.0.0.1:{port}",
        )
        try:
            with pytest.raises(KafkaConnectionError):
                await producer.start()
        finally:
            await producer.stop()

    with pair.serve(world.payments, authorize_id(world.frontend_id)) as served:
        run("asyncio", start, served.port)
        assert served.hits == 0
    assert [str(rejection.spiffe_id) for rejection in heard] == [str(world.payments_id)]


def test_producer_and_consumer_know_their_brokers(world: Any, pair: KafkaPair) -> None:
    trusted = authorize_id(world.payments_id)

    async def start(port: int) -> None:
        where = f"127.0.0.1:{port}"
        producer = mtls_producer(world.frontend, trusted, bootstrap_servers=where)
        consumer = mtls_consumer(world.frontend, trusted, "example.org-frontend", bootstrap_servers=where)
        for client in (producer, consumer):
            try:
                inner = getattr(client, "client", None) or client._client
                await inner.bootstrap()
                await inner.ready(NODE)
                assert broker_spiffe_ids(client) == {NODE: world.payments_id}
            finally:
                await client.stop()

    with pair.serve(world.payments, authorize_id(world.frontend_id)) as served:
        run("asyncio", start, served.port)


@pytest.mark.parametrize("factory", [mtls_producer, mtls_consumer, mtls_admin_client])
@pytest.mark.parametrize(
    "option", [{"security_protocol": "PLAINTEXT"}, {"ssl_context": None}, {"security_protocol": "SASL_PLAINTEXT"}]
)
def test_options_that_go_round_the_policy_are_refused(world: Any, factory: Any, option: dict[str, Any]) -> None:
    async def make() -> None:
        with pytest.raises(CallerError, match="round the SPIFFE policy"):
            factory(world.frontend, authorize_member_of("example.org"), **option)

    asyncio.run(make())


def test_sasl_goes_inside_mutual_tls(world: Any) -> None:
    async def make() -> None:
        producer = mtls_producer(
            world.frontend,
            authorize_member_of("example.org"),
            bootstrap_servers="127.0.0.1:9",
            security_protocol="SASL_SSL",
            sasl_mechanism="PLAIN",
            sasl_plain_username="a",
            sasl_plain_password="b",
        )
        assert producer.client._security_protocol == "SASL_SSL"
        await producer.stop()

    asyncio.run(make())


def test_a_client_made_otherwise_has_no_verified_brokers() -> None:
    with pytest.raises(CallerError, match="mtls_options"):
        broker_spiffe_ids(object())


def test_the_page_and_the_example(world: Any, pair: KafkaPair) -> None:
    page = (ROOT / "docs/integrations/kafka.md").read_text()
    [block] = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    with (
        FakeWorkloadAPI() as agent,
        pair.serve(world.payments, authorize_id(world.frontend_id)) as served,
    ):
        agent.issue(world.ca, "/frontend")
        env = {"PATH": os.environ["PATH"], "SPIFFE_ENDPOINT_SOCKET": agent.address, "PYTHONPATH": str(ROOT)}
        example = [str(ROOT / "examples/kafka_client.py"), f"127.0.0.1:{served.port}", str(world.payments_id)]
        for arguments in (["-c", block.replace("9093", str(served.port))], example):
            done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
            assert str(world.payments_id) in done.stdout
            assert "example.org-frontend" in done.stdout, "the broker was told who called"
