# Written by authsec_sdk.proto.generate from google/protobuf/wrappers.proto. Do not edit.
"""Messages of google/protobuf/wrappers.proto, in the pool of our own."""

from authsec_sdk.proto import _pool

DESCRIPTOR = _pool.POOL.FindFileByName('google/protobuf/wrappers.proto')
DoubleValue = _pool.message_class("google.protobuf.DoubleValue", __name__)
FloatValue = _pool.message_class("google.protobuf.FloatValue", __name__)
Int64Value = _pool.message_class("google.protobuf.Int64Value", __name__)
UInt64Value = _pool.message_class("google.protobuf.UInt64Value", __name__)
Int32Value = _pool.message_class("google.protobuf.Int32Value", __name__)
UInt32Value = _pool.message_class("google.protobuf.UInt32Value", __name__)
BoolValue = _pool.message_class("google.protobuf.BoolValue", __name__)
StringValue = _pool.message_class("google.protobuf.StringValue", __name__)
BytesValue = _pool.message_class("google.protobuf.BytesValue", __name__)
