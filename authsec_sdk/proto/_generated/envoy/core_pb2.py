# Written by authsec_sdk.proto.generate from authsec_sdk/proto/envoy/core.proto. Do not edit.
"""Messages of authsec_sdk/proto/envoy/core.proto, in the pool of our own."""

from authsec_sdk.proto import _pool
from authsec_sdk.proto._generated.envoy import semantic_version_pb2  # noqa: F401 - its descriptors must be there first
from authsec_sdk.proto._generated import any_pb2  # noqa: F401 - its descriptors must be there first
from authsec_sdk.proto._generated import struct_pb2  # noqa: F401 - its descriptors must be there first

DESCRIPTOR = _pool.add_file(
    b'\n"authsec_sdk/proto/envoy/core.proto\x12\x14en'
    b'voy.config.core.v3\x1a.authsec_sdk/proto/en'
    b'voy/semantic_version.proto\x1a\x19google/proto'
    b'buf/any.proto\x1a\x1cgoogle/protobuf/struct.pr'
    b'oto"j\n\x0cBuildVersion\x12/\n\x07version\x18\x01 \x01(\x0b2\x1e.e'
    b'nvoy.type.v3.SemanticVersion\x12)\n\x08metadata'
    b'\x18\x02 \x01(\x0b2\x17.google.protobuf.Struct"\xe8\x01\n\x04Node'
    b'\x12\n\n\x02id\x18\x01 \x01(\t\x12\x0f\n\x07cluster\x18\x02 \x01(\t\x12)\n\x08metadat'
    b'a\x18\x03 \x01(\x0b2\x17.google.protobuf.Struct\x12\x17\n\x0fuser'
    b'_agent_name\x18\x06 \x01(\t\x12\x1c\n\x12user_agent_version\x18'
    b'\x07 \x01(\tH\x00\x12F\n\x18user_agent_build_version\x18\x08 \x01('
    b'\x0b2".envoy.config.core.v3.BuildVersionH\x00B'
    b'\x19\n\x17user_agent_version_type"~\n\nDataSource'
    b'\x12\x12\n\x08filename\x18\x01 \x01(\tH\x00\x12\x16\n\x0cinline_bytes\x18\x02 \x01'
    b'(\x0cH\x00\x12\x17\n\rinline_string\x18\x03 \x01(\tH\x00\x12\x1e\n\x14environ'
    b'ment_variable\x18\x04 \x01(\tH\x00B\x0b\n\tspecifier"P\n\x14Ty'
    b'pedExtensionConfig\x12\x0c\n\x04name\x18\x01 \x01(\t\x12*\n\x0ctype'
    b'd_config\x18\x02 \x01(\x0b2\x14.google.protobuf.Anyb\x06pr'
    b'oto3'
)
BuildVersion = _pool.message_class("envoy.config.core.v3.BuildVersion", __name__)
Node = _pool.message_class("envoy.config.core.v3.Node", __name__)
DataSource = _pool.message_class("envoy.config.core.v3.DataSource", __name__)
TypedExtensionConfig = _pool.message_class("envoy.config.core.v3.TypedExtensionConfig", __name__)
