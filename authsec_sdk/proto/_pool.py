"""The descriptor pool that holds our messages, apart from protobuf's default one.

The Workload API's messages have no package, so the standard's ``X509SVIDRequest`` can exist only once in a pool. In a
pool of our own they never meet another library's copy (py-spiffe registers one in the default pool), in either import
order. The well-known types are copied into it from the installed protobuf, so that their descriptors and ours agree.

Only ``message_factory`` and ``descriptor_pool`` of protobuf's public API are used: what `generate.py` writes has no
runtime version check and works with every protobuf that `pyproject.toml` admits.
"""

from typing import Any

from google.protobuf import any_pb2, empty_pb2, message_factory, struct_pb2, wrappers_pb2
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

POOL = DescriptorPool()

for _known in (any_pb2, empty_pb2, struct_pb2, wrappers_pb2):
    POOL.AddSerializedFile(_known.DESCRIPTOR.serialized_pb)


def add_file(serialized: bytes) -> FileDescriptor:
    """Put one serialized ``FileDescriptorProto`` into the pool; what it imports must be there already."""
    added: Any = POOL.AddSerializedFile(serialized)
    # The upb and C++ backends answer with the descriptor, the pure-Python one (before protobuf 6) with the proto.
    found: FileDescriptor = POOL.FindFileByName(added.name)
    return found


def message_class(full_name: str, module: str) -> Any:
    """The class of a top-level message; nested classes hang off it. Its ``__module__`` says where it is imported."""
    return _class_of(POOL.FindMessageTypeByName(full_name), module)


def _class_of(descriptor: Descriptor, module: str) -> Any:
    cls = message_factory.GetMessageClass(descriptor)
    cls.__module__ = module
    for nested in descriptor.nested_types:
        inner = _class_of(nested, module)
        if not hasattr(cls, nested.name):  # the pure-Python backend leaves that to the generated module
            setattr(cls, nested.name, inner)
    return cls


def enum(full_name: str) -> Any:
    """The wrapper of a top-level enum, as protobuf's own generated modules have it."""
    return EnumTypeWrapper(POOL.FindEnumTypeByName(full_name))
