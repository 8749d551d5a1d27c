"""What is on the admin socket alone: the log level, what the server says of itself, and what services there are."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from authsec_sdk.proto import reflection_v1_grpc, reflection_v1_pb2, reflection_v1alpha_grpc, reflection_v1alpha_pb2
from authsec_sdk.proto.spire import debug_grpc, debug_pb2, logger_grpc, logger_pb2, types_pb2
from authsec_sdk.rpc import GRPCError, Status
from icp_server.config.model import LogSettings
from icp_server.grpc_api.access import ACCESS
from icp_server.grpc_api.debug import subject_text

pytestmark = pytest.mark.anyio

GET = logger_pb2.GetLoggerRequest()
RESET = logger_pb2.ResetLogLevelRequest()


def state(current: int, launch: int = types_pb2.INFO) -> types_pb2.Logger:
    return types_pb2.Logger(current_level=current, launch_level=launch)  # type: ignore[arg-type]


@pytest.mark.usefixtures("root_level")
async def test_the_log_level_is_set_and_reset(live: Any) -> None:
    api = logger_grpc.LoggerStub(live.admin)
    assert await api.GetLogger(GET) == state(types_pb2.INFO)
    wanted = {"PANIC": 50, "FATAL": 50, "ERROR": 40, "WARN": 30, "INFO": 20, "DEBUG": 10, "TRACE": 5}
    for name, number in wanted.items():
        level = types_pb2.LogLevel.Value(name)
        assert await api.SetLogLevel(logger_pb2.SetLogLevelRequest(new_level=level)) == state(level)
        assert await api.GetLogger(GET) == state(level)
        assert logging.getLogger().level == number
        assert logging.getLogger("hpack").level >= logging.INFO
    assert await api.ResetLogLevel(RESET) == state(types_pb2.INFO)
    assert logging.getLogger().level == logging.INFO


@pytest.mark.usefixtures("root_level")
async def test_reset_goes_back_to_the_level_of_the_start(start_server: Any) -> None:
    live = await start_server(log=LogSettings(level="WARNING"))
    api = logger_grpc.LoggerStub(live.admin)
    assert await api.GetLogger(GET) == state(types_pb2.WARN, types_pb2.WARN)
    await api.SetLogLevel(logger_pb2.SetLogLevelRequest(new_level=types_pb2.DEBUG))
    assert await api.ResetLogLevel(RESET) == state(types_pb2.WARN, types_pb2.WARN)


@pytest.mark.parametrize(("number", "text"), [(0, "cannot be LogLevel_UNSPECIFIED"), (8, "unsupported"), (-1, "unsup")])
async def test_a_level_that_is_none_changes_nothing(live: Any, root_level: int, number: int, text: str) -> None:
    with pytest.raises(GRPCError, match=text) as caught:
        await logger_grpc.LoggerStub(live.admin).SetLogLevel(logger_pb2.SetLogLevelRequest(new_level=number))  # type: ignore[arg-type]
    assert caught.value.status is Status.INVALID_ARGUMENT
    assert logging.getLogger().level == root_level


async def test_the_server_says_what_it_is(start_server: Any, clock: Any) -> None:
    live = await start_server(options={"clock": clock})
    api = debug_grpc.DebugStub(live.admin)
    first = await api.GetInfo(debug_pb2.GetInfoRequest())
    own, root = first.svid_chain
    assert (own.id.path, own.subject) == ("/spire/server", "O=SPIRE,C=US")
    assert root.id == types_pb2.SPIFFEID(trust_domain="example.org")
    assert root.subject.startswith("SERIALNUMBER=")
    assert root.subject.endswith("O=SPIFFE,C=US")
    assert root.expires_at > own.expires_at > clock().timestamp()
    assert (first.uptime, first.agents_count, first.entries_count, first.federated_bundles_count) == (0, 0, 0, 1)
    await live.attest()
    clock.forward(seconds=4)
    assert await api.GetInfo(debug_pb2.GetInfoRequest()) == first
    clock.forward(seconds=1)
    later = await api.GetInfo(debug_pb2.GetInfoRequest())
    assert (later.uptime, later.agents_count, later.entries_count) == (5, 1, 1)  # the entry: the token's alias


def test_subjects_are_written_as_go_writes_them() -> None:
    attributes = [
        (NameOID.COUNTRY_NAME, "US"),
        (NameOID.ORGANIZATION_NAME, "A, B"),
        (NameOID.ORGANIZATION_NAME, "#c "),
        (NameOID.COMMON_NAME, "x"),
        (NameOID.X500_UNIQUE_IDENTIFIER, "u"),
    ]
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])
    assert subject_text(name) == "CN=x,O=A\\, B+O=\\#c\\ ,C=US,2.5.4.45=u"


VERSIONS = [(reflection_v1_grpc, reflection_v1_pb2), (reflection_v1alpha_grpc, reflection_v1alpha_pb2)]


async def reflect(live: Any, version: tuple[Any, Any], *questions: dict[str, Any]) -> list[Any]:
    grpc, messages = version
    answers = []
    async with grpc.ServerReflectionStub(live.admin).ServerReflectionInfo.open(timeout=30) as stream:
        for number, question in enumerate(questions, start=1):
            request = messages.ServerReflectionRequest(**question)
            await stream.send_message(request, end=number == len(questions))
            answer = await stream.recv_message()
            assert answer is not None
            assert answer.original_request == request
            answers.append(answer)
    return answers


@pytest.mark.parametrize("version", VERSIONS, ids=["v1", "v1alpha"])
async def test_every_service_is_named_and_described(live: Any, version: tuple[Any, Any]) -> None:
    (listed,) = await reflect(live, version, {"list_services": ""})
    names = [each.name for each in listed.list_services_response.service]
    assert set(names) == {method.split("/")[1] for method in ACCESS}
    pool = DescriptorPool()
    answers = await reflect(live, version, *({"file_containing_symbol": name} for name in names))
    for answer in answers:
        files = {}
        for raw in answer.file_descriptor_response.file_descriptor_proto:
            file = FileDescriptorProto.FromString(raw)
            files[file.name] = file
        _add(pool, files)
    for method in ACCESS:
        _, service, name = method.split("/")
        assert name in pool.FindServiceByName(service).methods_by_name


def _add(pool: DescriptorPool, files: dict[str, FileDescriptorProto]) -> None:
    """As a generic client does: each file after those it imports."""
    done: set[str] = set()

    def add(name: str) -> None:
        if name in done:
            return
        done.add(name)
        for needed in files[name].dependency:
            add(needed)
        pool.Add(files[name])  # type: ignore[no-untyped-call]

    for name in files:
        add(name)


@pytest.mark.parametrize("version", VERSIONS, ids=["v1", "v1alpha"])
async def test_other_questions(live: Any, version: tuple[Any, Any]) -> None:
    messages = version[1]
    found, field, method, unknown, foreign, extension, nothing = await reflect(
        live,
        version,
        {"file_by_filename": "authsec_sdk/proto/spire/debug.proto"},
        {"file_containing_symbol": "spire.api.types.Status.code"},
        {"file_containing_symbol": "spire.api.server.debug.v1.Debug.GetInfo"},
        {"file_containing_symbol": "no.such.Thing"},
        {"file_containing_symbol": "X509SVIDRequest"},  # in our pool, and of no service here
        {"file_containing_extension": messages.ExtensionRequest(containing_type="x", extension_number=1)},
        {"host": "x"},
    )
    for answer in (found, field, method):
        assert answer.file_descriptor_response.file_descriptor_proto
    assert [each.error_response.error_code for each in (unknown, foreign, extension, nothing)] == [5, 5, 5, 3]
