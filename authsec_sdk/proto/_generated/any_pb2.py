# Written by authsec_sdk.proto.generate from google/protobuf/any.proto. Do not edit.
"""Messages of google/protobuf/any.proto, in the pool of our own."""

from authsec_sdk.proto import _pool

DESCRIPTOR = _pool.POOL.FindFileByName('google/protobuf/any.proto')
Any = _pool.message_class("google.protobuf.Any", __name__)
