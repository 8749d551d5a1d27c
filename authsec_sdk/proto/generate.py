"""Write `_generated/` from our .proto text: ``python -m authsec_sdk.proto.generate [folder]``.

A development tool: it needs grpcio-tools, which nothing else of ours imports. Its output is a function of the .proto
files and of nothing else (a test regenerates it and compares the bytes), and it is not protoc's Python output:
protoc's registers in the default pool and refuses a protobuf older than the compiler. Of protoc we use the descriptors
and the `.pyi` files; service stubs are written here, with handlers that answer UNIMPLEMENTED until they are overridden.
"""

import re
import sys
import tempfile
from importlib import resources
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet, ServiceDescriptorProto

PROTO_DIR = Path(__file__).parent
ROOT = PROTO_DIR.parent.parent
PACKAGE = "authsec_sdk.proto"
GENERATED = f"{PACKAGE}._generated"
WELL_KNOWN = ("any", "empty", "struct", "wrappers")
HEADER = "# Written by authsec_sdk.proto.generate from {source}. Do not edit.\n"
CARDINALITY = {
    (False, False): ("UNARY_UNARY", "UnaryUnaryMethod"),
    (False, True): ("UNARY_STREAM", "UnaryStreamMethod"),
    (True, False): ("STREAM_UNARY", "StreamUnaryMethod"),
    (True, True): ("STREAM_STREAM", "StreamStreamMethod"),
}


def main(target: Path = PROTO_DIR / "_generated") -> None:
    """Write every generated file below `target` and delete the ones that no .proto stands behind any more."""
    written = {target / "__init__.py"}
    _write(target / "__init__.py", '"""Written by authsec_sdk.proto.generate: messages, their types and stubs."""\n')
    sources = sorted(str(path.relative_to(ROOT)) for path in PROTO_DIR.rglob("*.proto"))
    well_known = [f"google/protobuf/{name}.proto" for name in WELL_KNOWN]
    with tempfile.TemporaryDirectory() as scratch:
        files = _compile(sources + well_known, Path(scratch))
        for name, file in files.items():
            stem = _module_path(name)
            pyi = (Path(scratch) / name).with_name(Path(name).stem + "_pb2.pyi").read_text()
            outputs = {"_pb2.py": _render_messages(file), "_pb2.pyi": _render_types(name, pyi)}
            if file.service:
                outputs["_grpc.py"] = _render_services(file, files)
            for suffix, text in outputs.items():
                path = target / (stem + suffix)
                if path.parent != target:
                    init = path.parent / "__init__.py"
                    _write(init, '"""Written by authsec_sdk.proto.generate."""\n')
                    written.add(init)
                _write(path, text)
                written.add(path)
    for stale in set(target.rglob("*.py*")) - written:
        if stale.suffix in {".py", ".pyi"}:
            stale.unlink()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _compile(names: list[str], scratch: Path) -> dict[str, FileDescriptorProto]:
    from grpc_tools import protoc  # type: ignore[import-untyped]  # it has no types

    out = scratch / "descriptors"
    include = resources.files("grpc_tools") / "_proto"
    code = protoc.main(
        ["protoc", f"-I{ROOT}", f"-I{include}", f"--descriptor_set_out={out}", f"--pyi_out={scratch}", *names]
    )
    if code:
        sys.exit(code)
    by_name = {file.name: file for file in FileDescriptorSet.FromString(out.read_bytes()).file}
    return {name: by_name[name] for name in names}


def _module_path(proto: str) -> str:
    """Where below the generated folder a .proto file's modules go, without their suffix."""
    return proto.removesuffix(".proto").removeprefix("authsec_sdk/proto/").removeprefix("google/protobuf/")


def _module(proto: str) -> str:
    return _module_path(proto).replace("/", ".") + "_pb2"


def _import(proto: str) -> str:
    package, _, module = f"{GENERATED}.{_module(proto)}".rpartition(".")
    return f"from {package} import {module}"


def _render_messages(file: FileDescriptorProto) -> str:
    lines = [HEADER.format(source=file.name).rstrip(), f'"""Messages of {file.name}, in the pool of our own."""', ""]
    lines.append(f"from {PACKAGE} import _pool")
    lines += [f"{_import(dep)}  # noqa: F401 - its descriptors must be there first" for dep in file.dependency]
    lines.append("")
    if file.name.startswith("google/protobuf/"):
        lines.append(f"DESCRIPTOR = _pool.POOL.FindFileByName({file.name!r})")
    else:
        lines += ["DESCRIPTOR = _pool.add_file(", *_bytes_literal(_canonical(file)), ")"]
    prefix = f"{file.package}." if file.package else ""
    lines += [f'{m.name} = _pool.message_class("{prefix}{m.name}", __name__)' for m in file.message_type]
    for enum in file.enum_type:
        lines.append(f'{enum.name} = _pool.enum("{prefix}{enum.name}")')
        lines += [f"{value.name} = {value.number}" for value in enum.value]
    return "\n".join(lines) + "\n"


def _canonical(file: FileDescriptorProto) -> bytes:
    """The serialized descriptor without what every runtime derives by itself (JSON names)."""
    clean = FileDescriptorProto()
    clean.CopyFrom(file)
    messages = list(clean.message_type)
    while messages:
        message = messages.pop()
        messages.extend(message.nested_type)
        for field in message.field:
            field.ClearField("json_name")
    return clean.SerializeToString(deterministic=True)


def _bytes_literal(data: bytes) -> list[str]:
    return [f"    {data[i : i + 40]!r}" for i in range(0, len(data), 40)]


def _render_types(name: str, pyi: str) -> str:
    """protoc's type stub with our well-known types, and typed where protoc leaves a bare ``Mapping``."""
    known = "|".join(WELL_KNOWN)
    pyi = re.sub(rf"(?m)^from google\.protobuf import ((?:{known})_pb2) as", rf"from {GENERATED} import \1 as", pyi)
    ours = rf"(?m)^from {re.escape(PACKAGE)}((?:\.(?!_generated)\w+)*) import"
    pyi = re.sub(ours, rf"from {GENERATED}\1 import", pyi)
    pyi = re.sub(r"\b_Mapping\]", "_Mapping[str, _Any]]", pyi)
    if "_Any]" in pyi:
        pyi = pyi.replace("from typing import ", "from typing import Any as _Any, ", 1)
    return HEADER.format(source=name) + pyi


def _render_services(file: FileDescriptorProto, files: dict[str, FileDescriptorProto]) -> str:
    types = {
        f".{other.package}.{message.name}".replace("..", "."): f"{_module(dep).rpartition('.')[2]}.{message.name}"
        for dep, other in files.items()
        for message in other.message_type
    }
    lines = [HEADER.format(source=file.name).rstrip(), f'"""Services of {file.name}: handlers and stubs."""', ""]
    lines += [
        "import grpclib.client",
        "import grpclib.server",
        "from grpclib.const import Cardinality, Handler, Status",
    ]
    lines += ["from grpclib.exceptions import GRPCError", ""]
    lines += sorted(_import(name) for name in _used_files(file, files))
    for service in file.service:
        lines += ["", "", *_handlers(file.package, service, types), "", "", *_stub(file.package, service, types)]
    return "\n".join(lines) + "\n"


def _used_files(file: FileDescriptorProto, files: dict[str, FileDescriptorProto]) -> set[str]:
    used = {t for s in file.service for m in s.method for t in (m.input_type, m.output_type)}
    return {
        name
        for name, other in files.items()
        if any(f".{other.package}.{message.name}".replace("..", ".") in used for message in other.message_type)
    }


def _handlers(package: str, service: ServiceDescriptorProto, types: dict[str, str]) -> list[str]:
    full = f"{package}.{service.name}" if package else service.name
    lines = [f"class {service.name}Base:", f'    """Handlers of /{full}/: override what is served."""', ""]
    mapping = []
    for method in service.method:
        request, reply = types[method.input_type], types[method.output_type]
        kind = CARDINALITY[method.client_streaming, method.server_streaming][0]
        lines += [
            f"    async def {method.name}(",
            f'        self, stream: "grpclib.server.Stream[{request}, {reply}]"',
            "    ) -> None:",
            f'        raise GRPCError(Status.UNIMPLEMENTED, "method {method.name} not implemented")',
            "",
        ]
        mapping += [
            f'            "/{full}/{method.name}": Handler(',
            f"                self.{method.name}, Cardinality.{kind}, {request}, {reply}",
            "            ),",
        ]
    return [*lines, "    def __mapping__(self) -> dict[str, Handler]:", "        return {", *mapping, "        }"]


def _stub(package: str, service: ServiceDescriptorProto, types: dict[str, str]) -> list[str]:
    full = f"{package}.{service.name}" if package else service.name
    lines = [f"class {service.name}Stub:", f'    """Calls of /{full}/."""', ""]
    lines.append("    def __init__(self, channel: grpclib.client.Channel) -> None:")
    for method in service.method:
        kind = CARDINALITY[method.client_streaming, method.server_streaming][1]
        lines += [
            f"        self.{method.name} = grpclib.client.{kind}(",
            f'            channel, "/{full}/{method.name}", {types[method.input_type]}, {types[method.output_type]}',
            "        )",
        ]
    return lines


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:2]))
