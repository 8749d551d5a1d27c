"""Envoy's messages against facts taken once from the descriptors of PyPI's `xds-protos` 1.85.0: numbers and types."""

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto

from authsec_sdk.proto import _pool
from authsec_sdk.proto.envoy import core_pb2, discovery_pb2, sds_grpc, tls_pb2

TLS = "envoy.extensions.transport_sockets.tls.v3"
DISCOVERY = "envoy.service.discovery.v3"
CORE = "envoy.config.core.v3"
Field = FieldDescriptorProto
SCALARS = {
    Field.TYPE_STRING: "string",
    Field.TYPE_BYTES: "bytes",
    Field.TYPE_INT32: "int32",
    Field.TYPE_UINT32: "uint32",
}
# message: number name type, in the words of a .proto file; each is a fact about the wire.
FACTS = f"""
envoy.type.v3.SemanticVersion: 1 major_number uint32, 2 minor_number uint32, 3 patch uint32
google.rpc.Status: 1 code int32, 2 message string, 3 details repeated google.protobuf.Any
{CORE}.BuildVersion: 1 version envoy.type.v3.SemanticVersion, 2 metadata google.protobuf.Struct
{CORE}.Node: 1 id string, 2 cluster string, 3 metadata google.protobuf.Struct, 6 user_agent_name string, \
7 user_agent_version string, 8 user_agent_build_version {CORE}.BuildVersion
{CORE}.DataSource: 1 filename string, 2 inline_bytes bytes, 3 inline_string string, 4 environment_variable string
{CORE}.TypedExtensionConfig: 1 name string, 2 typed_config google.protobuf.Any
{DISCOVERY}.DiscoveryRequest: 1 version_info string, 2 node {CORE}.Node, 3 resource_names repeated string, \
4 type_url string, 5 response_nonce string, 6 error_detail google.rpc.Status
{DISCOVERY}.DiscoveryResponse: 1 version_info string, 2 resources repeated google.protobuf.Any, 4 type_url string, \
5 nonce string
{DISCOVERY}.DeltaDiscoveryRequest: 1 node {CORE}.Node, 2 type_url string, 3 resource_names_subscribe repeated string, \
4 resource_names_unsubscribe repeated string, \
5 initial_resource_versions repeated {DISCOVERY}.DeltaDiscoveryRequest.InitialResourceVersionsEntry, \
6 response_nonce string, 7 error_detail google.rpc.Status
{DISCOVERY}.DeltaDiscoveryRequest.InitialResourceVersionsEntry: 1 key string, 2 value string
{DISCOVERY}.DeltaDiscoveryResponse: 1 system_version_info string, 2 resources repeated {DISCOVERY}.Resource, \
4 type_url string, 5 nonce string, 6 removed_resources repeated string
{DISCOVERY}.Resource: 1 version string, 2 resource google.protobuf.Any, 3 name string, 4 aliases repeated string
{TLS}.Secret: 1 name string, 2 tls_certificate {TLS}.TlsCertificate, \
4 validation_context {TLS}.CertificateValidationContext
{TLS}.TlsCertificate: 1 certificate_chain {CORE}.DataSource, 2 private_key {CORE}.DataSource
{TLS}.CertificateValidationContext: 1 trusted_ca {CORE}.DataSource, \
12 custom_validator_config {CORE}.TypedExtensionConfig
{TLS}.SPIFFECertValidatorConfig: 1 trust_domains repeated {TLS}.SPIFFECertValidatorConfig.TrustDomain
{TLS}.SPIFFECertValidatorConfig.TrustDomain: 1 name string, 2 trust_bundle {CORE}.DataSource
"""


def told(field: FieldDescriptorProto) -> str:
    kind = field.type_name.removeprefix(".") or SCALARS[field.type]
    return f"{field.number} {field.name} {'repeated ' if field.label == Field.LABEL_REPEATED else ''}{kind}"


@pytest.mark.parametrize("fact", FACTS.strip().splitlines(), ids=lambda fact: fact.partition(":")[0].rpartition(".")[2])
def test_each_field_is_envoys(fact: str) -> None:
    name, _, fields = fact.partition(": ")
    message = DescriptorProto()
    _pool.POOL.FindMessageTypeByName(name).CopyToProto(message)
    assert ", ".join(told(field) for field in message.field) == fields


def test_the_alternatives_exclude_each_other() -> None:
    groups = {
        oneof.full_name: [field.name for field in oneof.fields]
        for cls in (tls_pb2.Secret, core_pb2.DataSource, core_pb2.Node)
        for oneof in cls.DESCRIPTOR.oneofs
    }
    assert groups == {
        f"{TLS}.Secret.type": ["tls_certificate", "validation_context"],
        f"{CORE}.DataSource.specifier": ["filename", "inline_bytes", "inline_string", "environment_variable"],
        f"{CORE}.Node.user_agent_version_type": ["user_agent_version", "user_agent_build_version"],
    }


def test_the_service_has_its_three_calls() -> None:
    calls = sds_grpc.SecretDiscoveryServiceBase().__mapping__()
    assert {
        path.rpartition("/")[2]: (call.cardinality.name, call.request_type, call.reply_type)
        for path, call in calls.items()
        if path.startswith("/envoy.service.secret.v3.SecretDiscoveryService/")
    } == {
        "StreamSecrets": ("STREAM_STREAM", discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse),
        "DeltaSecrets": ("STREAM_STREAM", discovery_pb2.DeltaDiscoveryRequest, discovery_pb2.DeltaDiscoveryResponse),
        "FetchSecrets": ("UNARY_UNARY", discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse),
    }


def test_fields_of_envoy_that_are_not_ours_pass_by() -> None:
    """A node has more to say: here field 10, client_features."""
    node = core_pb2.Node.FromString(b"\x0a\x01x" + b"\x52\x03abc")
    assert node.id == "x"
    assert node.SerializeToString().endswith(b"\x52\x03abc")
