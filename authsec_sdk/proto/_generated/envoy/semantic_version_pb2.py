# Written by authsec_sdk.proto.generate from authsec_sdk/proto/envoy/semantic_version.proto. Do not edit.
"""Messages of authsec_sdk/proto/envoy/semantic_version.proto, in the pool of our own."""

from authsec_sdk.proto import _pool

DESCRIPTOR = _pool.add_file(
    b'\n.authsec_sdk/proto/envoy/semantic_versi'
    b'on.proto\x12\renvoy.type.v3"L\n\x0fSemanticVersi'
    b'on\x12\x14\n\x0cmajor_number\x18\x01 \x01(\r\x12\x14\n\x0cminor_number'
    b'\x18\x02 \x01(\r\x12\r\n\x05patch\x18\x03 \x01(\rb\x06proto3'
)
SemanticVersion = _pool.message_class("envoy.type.v3.SemanticVersion", __name__)
