# Written by authsec_sdk.proto.generate from authsec_sdk/proto/envoy/tls.proto. Do not edit.
"""Messages of authsec_sdk/proto/envoy/tls.proto, in the pool of our own."""

from authsec_sdk.proto import _pool
from authsec_sdk.proto._generated.envoy import core_pb2  # noqa: F401 - its descriptors must be there first

DESCRIPTOR = _pool.add_file(
    b'\n!authsec_sdk/proto/envoy/tls.proto\x12)env'
    b'oy.extensions.transport_sockets.tls.v3\x1a"'
    b'authsec_sdk/proto/envoy/core.proto"\xdb\x01\n\x06S'
    b'ecret\x12\x0c\n\x04name\x18\x01 \x01(\t\x12T\n\x0ftls_certificate\x18\x02'
    b' \x01(\x0b29.envoy.extensions.transport_socket'
    b's.tls.v3.TlsCertificateH\x00\x12e\n\x12validation_'
    b'context\x18\x04 \x01(\x0b2G.envoy.extensions.transpo'
    b'rt_sockets.tls.v3.CertificateValidationC'
    b'ontextH\x00B\x06\n\x04type"\x84\x01\n\x0eTlsCertificate\x12;\n\x11c'
    b'ertificate_chain\x18\x01 \x01(\x0b2 .envoy.config.co'
    b're.v3.DataSource\x125\n\x0bprivate_key\x18\x02 \x01(\x0b2 .'
    b'envoy.config.core.v3.DataSource"\xa1\x01\n\x1cCert'
    b'ificateValidationContext\x124\n\ntrusted_ca\x18\x01'
    b' \x01(\x0b2 .envoy.config.core.v3.DataSource\x12K'
    b'\n\x17custom_validator_config\x18\x0c \x01(\x0b2*.envoy.'
    b'config.core.v3.TypedExtensionConfig"\xd9\x01\n\x19'
    b'SPIFFECertValidatorConfig\x12g\n\rtrust_domai'
    b'ns\x18\x01 \x03(\x0b2P.envoy.extensions.transport_so'
    b'ckets.tls.v3.SPIFFECertValidatorConfig.T'
    b'rustDomain\x1aS\n\x0bTrustDomain\x12\x0c\n\x04name\x18\x01 \x01(\t\x12'
    b'6\n\x0ctrust_bundle\x18\x02 \x01(\x0b2 .envoy.config.cor'
    b'e.v3.DataSourceb\x06proto3'
)
Secret = _pool.message_class("envoy.extensions.transport_sockets.tls.v3.Secret", __name__)
TlsCertificate = _pool.message_class("envoy.extensions.transport_sockets.tls.v3.TlsCertificate", __name__)
CertificateValidationContext = _pool.message_class("envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext", __name__)
SPIFFECertValidatorConfig = _pool.message_class("envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig", __name__)
