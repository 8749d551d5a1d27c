"""Envoy's messages on the one side, what the agent means by them on the other: here and nowhere else."""

from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authsec_sdk.proto import any_pb2
from authsec_sdk.proto.envoy import core_pb2, discovery_pb2, tls_pb2
from authsec_sdk.spiffe import X509SVID, X509Bundle
from icp_agent.domain.secret_streams import DeltaRequest, Update, WholeRequest
from icp_agent.domain.secrets import CertificateSecret, Secret, TrustSecret

SPIFFE_VALIDATOR: Final = "envoy.tls.cert_validator.spiffe"
DISABLE_KEY: Final = "disable_spiffe_cert_validation"
"""In a node's metadata: this proxy is to get plain authorities and do the rest itself."""

_FIRST_WITH_VALIDATOR: Final = (1, 18)
_MAXIMUM_REASON: Final = 512


def read_whole(request: discovery_pb2.DiscoveryRequest) -> WholeRequest:
    """A request of the protocol that tells all."""
    return WholeRequest(
        nonce=request.response_nonce,
        type_url=request.type_url,
        refused=_refused(request),
        apart=_keeps_apart(request),
        names=tuple(request.resource_names),
    )


def read_delta(request: discovery_pb2.DeltaDiscoveryRequest) -> DeltaRequest:
    """A request of the protocol of changes."""
    return DeltaRequest(
        nonce=request.response_nonce,
        type_url=request.type_url,
        refused=_refused(request),
        apart=_keeps_apart(request),
        subscribe=tuple(request.resource_names_subscribe),
        unsubscribe=tuple(request.resource_names_unsubscribe),
        known=dict(request.initial_resource_versions),
    )


def whole_response(update: Update) -> discovery_pb2.DiscoveryResponse:
    """All secrets of an update."""
    return discovery_pb2.DiscoveryResponse(
        version_info=update.version,
        nonce=update.nonce,
        type_url=update.type_url,
        resources=[_packed(secret) for secret in update.secrets],
    )


def delta_response(update: Update) -> discovery_pb2.DeltaDiscoveryResponse:
    """The changes of an update, each secret with its version."""
    return discovery_pb2.DeltaDiscoveryResponse(
        system_version_info=update.version,
        nonce=update.nonce,
        type_url=update.type_url,
        resources=[
            discovery_pb2.Resource(name=secret.name, version=version, resource=_packed(secret))
            for secret, version in zip(update.secrets, update.versions, strict=True)
        ],
        removed_resources=update.removed,
    )


def _packed(secret: Secret) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(secret_message(secret))
    return packed


def secret_message(secret: Secret) -> tls_pb2.Secret:
    """One secret as Envoy has it: PEM inline, the key in PKCS#8."""
    if isinstance(secret, CertificateSecret):
        return tls_pb2.Secret(name=secret.name, tls_certificate=_certificate(secret.svid))
    return tls_pb2.Secret(name=secret.name, validation_context=_validation(secret))


def _certificate(svid: X509SVID) -> tls_pb2.TlsCertificate:
    chain = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in svid.certificates)
    return tls_pb2.TlsCertificate(
        certificate_chain=_inline(chain),
        private_key=_inline(svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())),
    )


def _validation(secret: TrustSecret) -> tls_pb2.CertificateValidationContext:
    if not secret.apart:
        (bundle,) = secret.bundles  # several together would let each domain vouch for all the others
        return tls_pb2.CertificateValidationContext(trusted_ca=_inline(bundle.to_pem()))
    validator = any_pb2.Any()
    validator.Pack(tls_pb2.SPIFFECertValidatorConfig(trust_domains=[_domain(bundle) for bundle in secret.bundles]))
    return tls_pb2.CertificateValidationContext(
        custom_validator_config=core_pb2.TypedExtensionConfig(name=SPIFFE_VALIDATOR, typed_config=validator)
    )


def _domain(bundle: X509Bundle) -> tls_pb2.SPIFFECertValidatorConfig.TrustDomain:
    return tls_pb2.SPIFFECertValidatorConfig.TrustDomain(
        name=str(bundle.trust_domain), trust_bundle=_inline(bundle.to_pem())
    )


def _inline(data: bytes) -> core_pb2.DataSource:
    return core_pb2.DataSource(inline_bytes=data)


def _refused(request: discovery_pb2.DiscoveryRequest | discovery_pb2.DeltaDiscoveryRequest) -> str | None:
    return request.error_detail.message[:_MAXIMUM_REASON] if request.HasField("error_detail") else None


def _keeps_apart(request: discovery_pb2.DiscoveryRequest | discovery_pb2.DeltaDiscoveryRequest) -> bool | None:
    """Whether the proxy has the SPIFFE validator and wants it; None if the request does not say what it is."""
    if not request.HasField("node"):
        return None
    if request.node.WhichOneof("user_agent_version_type") == "user_agent_build_version":
        version = request.node.user_agent_build_version.version
        if (version.major_number, version.minor_number) < _FIRST_WITH_VALIDATOR:
            return False
    return not _disabled(request.node)


def _disabled(node: core_pb2.Node) -> bool:
    value = node.metadata.fields.get(DISABLE_KEY)
    return value is not None and (value.bool_value or value.string_value.lower() == "true")
