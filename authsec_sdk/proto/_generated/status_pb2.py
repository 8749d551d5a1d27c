# Written by authsec_sdk.proto.generate from authsec_sdk/proto/status.proto. Do not edit.
"""Messages of authsec_sdk/proto/status.proto, in the pool of our own."""

from authsec_sdk.proto import _pool
from authsec_sdk.proto._generated import any_pb2  # noqa: F401 - its descriptors must be there first

DESCRIPTOR = _pool.add_file(
    b'\n\x1eauthsec_sdk/proto/status.proto\x12\ngoogle'
    b'.rpc\x1a\x19google/protobuf/any.proto"N\n\x06Statu'
    b's\x12\x0c\n\x04code\x18\x01 \x01(\x05\x12\x0f\n\x07message\x18\x02 \x01(\t\x12%\n\x07deta'
    b'ils\x18\x03 \x03(\x0b2\x14.google.protobuf.Anyb\x06proto3'
)
Status = _pool.message_class("google.rpc.Status", __name__)
