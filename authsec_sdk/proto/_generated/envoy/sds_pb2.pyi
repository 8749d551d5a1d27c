# Written by authsec_sdk.proto.generate from authsec_sdk/proto/envoy/sds.proto. Do not edit.
from authsec_sdk.proto._generated.envoy import discovery_pb2 as _discovery_pb2
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor
