# Written by authsec_sdk.proto.generate from google/protobuf/struct.proto. Do not edit.
"""Messages of google/protobuf/struct.proto, in the pool of our own."""

from authsec_sdk.proto import _pool

DESCRIPTOR = _pool.POOL.FindFileByName('google/protobuf/struct.proto')
Struct = _pool.message_class("google.protobuf.Struct", __name__)
Value = _pool.message_class("google.protobuf.Value", __name__)
ListValue = _pool.message_class("google.protobuf.ListValue", __name__)
NullValue = _pool.enum("google.protobuf.NullValue")
NULL_VALUE = 0
