"""gRPC server reflection, on the admin socket alone: which services there are, and what their messages look like."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any, Protocol

import grpclib.server
from google.protobuf.descriptor import FileDescriptor
from grpclib.const import Handler, Status

from authsec_sdk.proto import (
    _pool,
    reflection_v1_grpc,
    reflection_v1_pb2,
    reflection_v1alpha_grpc,
    reflection_v1alpha_pb2,
)

REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"
REFLECTION_V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"


class _Served(Protocol):
    def __mapping__(self) -> dict[str, Handler]:
        """Handlers by their full method names."""


class Schema:
    """The services of a server and the files that describe them: those and what they import, no other file."""

    def __init__(self, handlers: Iterable[_Served]) -> None:
        names = {method.split("/")[1] for handler in handlers for method in handler.__mapping__()}
        self.services = tuple(sorted({*names, REFLECTION_V1, REFLECTION_V1ALPHA}))
        self._files: dict[str, FileDescriptor] = {}
        for name in self.services:
            self._add(_pool.POOL.FindServiceByName(name).file)

    def _add(self, file: FileDescriptor) -> None:
        if file.name not in self._files:
            self._files[file.name] = file
            for needed in file.dependencies:
                self._add(needed)

    def file(self, name: str) -> list[bytes]:
        """A file and those it imports, serialized, it first; nothing if it is none of ours."""
        found = self._files.get(name)
        if found is None:
            return []
        wanted: dict[str, bytes] = {}
        waiting = [found]
        while waiting:
            file = waiting.pop(0)
            if file.name not in wanted:
                wanted[file.name] = file.serialized_pb
                waiting += file.dependencies
        return list(wanted.values())

    def symbol(self, name: str) -> list[bytes]:
        """The file where a service, a method, a message, a field or an enum is described, as `file` gives it."""
        while name:
            try:
                return self.file(_pool.POOL.FindFileContainingSymbol(name).name)
            except KeyError:
                name = name.rpartition(".")[0] if self._is_member(name) else ""
        return []

    def _is_member(self, name: str) -> bool:
        """Whether it is a method, field or value, which a pool does not find by itself."""
        owner, _, member = name.rpartition(".")
        for find in (_pool.POOL.FindServiceByName, _pool.POOL.FindMessageTypeByName, _pool.POOL.FindEnumTypeByName):
            try:
                found: Any = find(owner)
            except KeyError:
                continue
            members = [*getattr(found, "methods_by_name", ()), *getattr(found, "fields_by_name", ())]
            return member in [*members, *getattr(found, "values_by_name", ())]
        return False


async def _reflect(stream: grpclib.server.Stream[Any, Any], messages: ModuleType, schema: Schema) -> None:
    async for request in stream:
        reply = messages.ServerReflectionResponse(valid_host=request.host, original_request=request)
        _answer(request, reply, schema)
        await stream.send_message(reply)


def _answer(request: Any, reply: Any, schema: Schema) -> None:
    kind = request.WhichOneof("message_request")
    if kind == "list_services":
        for name in schema.services:
            reply.list_services_response.service.add(name=name)
        return
    files: list[bytes] = []
    if kind == "file_by_filename":
        files = schema.file(request.file_by_filename)
    elif kind == "file_containing_symbol":
        files = schema.symbol(request.file_containing_symbol)
    elif kind is None:
        reply.error_response.error_code = Status.INVALID_ARGUMENT.value
        reply.error_response.error_message = "invalid MessageRequest: none is set"
        return
    if files:
        reply.file_descriptor_response.file_descriptor_proto.extend(files)
        return
    reply.error_response.error_code = Status.NOT_FOUND.value  # our messages have no extensions
    reply.error_response.error_message = f"not found: {kind}"


class ReflectionV1(reflection_v1_grpc.ServerReflectionBase):
    """The current version."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    async def ServerReflectionInfo(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[Any, Any]
    ) -> None:
        """Answer one question after the other."""
        await _reflect(stream, reflection_v1_pb2, self._schema)


class ReflectionV1Alpha(reflection_v1alpha_grpc.ServerReflectionBase):
    """The version that older clients ask for; it says the same."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    async def ServerReflectionInfo(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[Any, Any]
    ) -> None:
        """Answer one question after the other."""
        await _reflect(stream, reflection_v1alpha_pb2, self._schema)
