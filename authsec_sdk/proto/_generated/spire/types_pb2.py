# Written by authsec_sdk.proto.generate from authsec_sdk/proto/spire/types.proto. Do not edit.
"""Messages of authsec_sdk/proto/spire/types.proto, in the pool of our own."""

from authsec_sdk.proto import _pool

DESCRIPTOR = _pool.add_file(
    b'\n#authsec_sdk/proto/spire/types.proto\x12\x0fs'
    b'pire.api.types"\'\n\x08Selector\x12\x0c\n\x04type\x18\x01 \x01(\t'
    b'\x12\r\n\x05value\x18\x02 \x01(\t"\xd1\x01\n\rSelectorMatch\x12,\n\tsel'
    b'ectors\x18\x01 \x03(\x0b2\x19.spire.api.types.Selector\x12'
    b';\n\x05match\x18\x02 \x01(\x0e2,.spire.api.types.Selecto'
    b'rMatch.MatchBehavior"U\n\rMatchBehavior\x12\x0f\n'
    b'\x0bMATCH_EXACT\x10\x00\x12\x10\n\x0cMATCH_SUBSET\x10\x01\x12\x12\n\x0eMATC'
    b'H_SUPERSET\x10\x02\x12\r\n\tMATCH_ANY\x10\x03".\n\x08SPIFFEID\x12'
    b'\x14\n\x0ctrust_domain\x18\x01 \x01(\t\x12\x0c\n\x04path\x18\x02 \x01(\t"\xf0\x01\n\x05'
    b'Agent\x12%\n\x02id\x18\x01 \x01(\x0b2\x19.spire.api.types.SPIF'
    b'FEID\x12\x18\n\x10attestation_type\x18\x02 \x01(\t\x12\x1e\n\x16x509sv'
    b'id_serial_number\x18\x03 \x01(\t\x12\x1b\n\x13x509svid_expir'
    b'es_at\x18\x04 \x01(\x03\x12,\n\tselectors\x18\x05 \x03(\x0b2\x19.spire.a'
    b'pi.types.Selector\x12\x0e\n\x06banned\x18\x06 \x01(\x08\x12\x14\n\x0ccan'
    b'_reattest\x18\x07 \x01(\x08\x12\x15\n\ragent_version\x18\x08 \x01(\t"\xb2'
    b'\x01\n\tAgentMask\x12\x18\n\x10attestation_type\x18\x02 \x01(\x08\x12\x1e'
    b'\n\x16x509svid_serial_number\x18\x03 \x01(\x08\x12\x1b\n\x13x509sv'
    b'id_expires_at\x18\x04 \x01(\x08\x12\x11\n\tselectors\x18\x05 \x01(\x08\x12\x0e'
    b'\n\x06banned\x18\x06 \x01(\x08\x12\x14\n\x0ccan_reattest\x18\x07 \x01(\x08\x12\x15\n\r'
    b'agent_version\x18\x08 \x01(\x08"0\n\x0fAttestationData\x12\x0c'
    b'\n\x04type\x18\x01 \x01(\t\x12\x0f\n\x07payload\x18\x02 \x01(\x0c"\xed\x01\n\x06Bundle'
    b'\x12\x14\n\x0ctrust_domain\x18\x01 \x01(\t\x12:\n\x10x509_authoriti'
    b'es\x18\x02 \x03(\x0b2 .spire.api.types.X509Certifica'
    b'te\x120\n\x0fjwt_authorities\x18\x03 \x03(\x0b2\x17.spire.api.'
    b'types.JWTKey\x12\x14\n\x0crefresh_hint\x18\x04 \x01(\x03\x12\x17\n\x0fse'
    b'quence_number\x18\x05 \x01(\x04\x120\n\x0fwit_authorities\x18\x06'
    b' \x03(\x0b2\x17.spire.api.types.WITKey"0\n\x0fX509Cer'
    b'tificate\x12\x0c\n\x04asn1\x18\x01 \x01(\x0c\x12\x0f\n\x07tainted\x18\x02 \x01(\x08"'
    b'Q\n\x06JWTKey\x12\x12\n\npublic_key\x18\x01 \x01(\x0c\x12\x0e\n\x06key_id\x18'
    b'\x02 \x01(\t\x12\x12\n\nexpires_at\x18\x03 \x01(\x03\x12\x0f\n\x07tainted\x18\x04 \x01'
    b'(\x08"Q\n\x06WITKey\x12\x12\n\npublic_key\x18\x01 \x01(\x0c\x12\x0e\n\x06key_'
    b'id\x18\x02 \x01(\t\x12\x12\n\nexpires_at\x18\x03 \x01(\x03\x12\x0f\n\x07tainted\x18'
    b'\x04 \x01(\x08"\x87\x01\n\nBundleMask\x12\x18\n\x10x509_authorities'
    b'\x18\x02 \x01(\x08\x12\x17\n\x0fjwt_authorities\x18\x03 \x01(\x08\x12\x14\n\x0crefre'
    b'sh_hint\x18\x04 \x01(\x08\x12\x17\n\x0fsequence_number\x18\x05 \x01(\x08\x12\x17'
    b'\n\x0fwit_authorities\x18\x06 \x01(\x08"\xa1\x04\n\x05Entry\x12\n\n\x02id\x18'
    b'\x01 \x01(\t\x12,\n\tspiffe_id\x18\x02 \x01(\x0b2\x19.spire.api.typ'
    b'es.SPIFFEID\x12,\n\tparent_id\x18\x03 \x01(\x0b2\x19.spire.a'
    b'pi.types.SPIFFEID\x12,\n\tselectors\x18\x04 \x03(\x0b2\x19.s'
    b'pire.api.types.Selector\x12\x15\n\rx509_svid_ttl'
    b'\x18\x05 \x01(\x05\x12\x16\n\x0efederates_with\x18\x06 \x03(\t\x12\r\n\x05admin\x18'
    b'\x07 \x01(\x08\x12\x12\n\ndownstream\x18\x08 \x01(\x08\x12\x12\n\nexpires_at\x18'
    b'\t \x01(\x03\x12\x11\n\tdns_names\x18\n \x03(\t\x12\x17\n\x0frevision_num'
    b'ber\x18\x0b \x01(\x03\x12\x12\n\nstore_svid\x18\x0c \x01(\x08\x12\x14\n\x0cjwt_svi'
    b'd_ttl\x18\r \x01(\x05\x12\x0c\n\x04hint\x18\x0e \x01(\t\x12\x12\n\ncreated_at\x18'
    b'\x0f \x01(\x03\x12J\n\x15additional_attributes\x18\x10 \x01(\x0b2+.s'
    b'pire.api.types.Entry.AdditionalAttribute'
    b's\x1aX\n\x14AdditionalAttributes\x12"\n\x1adisable_x50'
    b'9_svid_prefetch\x18\x01 \x01(\x08\x12\x1c\n\x14jwt_svid_includ'
    b'e_jti\x18\x02 \x01(\x08"\xc1\x02\n\tEntryMask\x12\x11\n\tspiffe_id\x18\x02'
    b' \x01(\x08\x12\x11\n\tparent_id\x18\x03 \x01(\x08\x12\x11\n\tselectors\x18\x04 \x01'
    b'(\x08\x12\x15\n\rx509_svid_ttl\x18\x05 \x01(\x08\x12\x16\n\x0efederates_w'
    b'ith\x18\x06 \x01(\x08\x12\r\n\x05admin\x18\x07 \x01(\x08\x12\x12\n\ndownstream\x18\x08'
    b' \x01(\x08\x12\x12\n\nexpires_at\x18\t \x01(\x08\x12\x11\n\tdns_names\x18\n '
    b'\x01(\x08\x12\x17\n\x0frevision_number\x18\x0b \x01(\x08\x12\x12\n\nstore_sv'
    b'id\x18\x0c \x01(\x08\x12\x14\n\x0cjwt_svid_ttl\x18\r \x01(\x08\x12\x0c\n\x04hint\x18\x0e'
    b' \x01(\x08\x12\x12\n\ncreated_at\x18\x0f \x01(\x08\x12\x1d\n\x15additional_a'
    b'ttributes\x18\x10 \x01(\x08"\xc4\x01\n\x12FederatesWithMatch\x12\x15'
    b'\n\rtrust_domains\x18\x01 \x03(\t\x12@\n\x05match\x18\x02 \x01(\x0e21.s'
    b'pire.api.types.FederatesWithMatch.MatchB'
    b'ehavior"U\n\rMatchBehavior\x12\x0f\n\x0bMATCH_EXACT\x10'
    b'\x00\x12\x10\n\x0cMATCH_SUBSET\x10\x01\x12\x12\n\x0eMATCH_SUPERSET\x10\x02\x12'
    b'\r\n\tMATCH_ANY\x10\x03"\x90\x02\n\x16FederationRelationshi'
    b'p\x12\x14\n\x0ctrust_domain\x18\x01 \x01(\t\x12\x1b\n\x13bundle_endpoi'
    b'nt_url\x18\x02 \x01(\t\x125\n\thttps_web\x18\x03 \x01(\x0b2 .spire.'
    b'api.types.HTTPSWebProfileH\x00\x12;\n\x0chttps_spi'
    b'ffe\x18\x04 \x01(\x0b2#.spire.api.types.HTTPSSPIFFEP'
    b'rofileH\x00\x124\n\x13trust_domain_bundle\x18\x05 \x01(\x0b2\x17.'
    b'spire.api.types.BundleB\x19\n\x17bundle_endpoin'
    b't_profile"0\n\x12HTTPSSPIFFEProfile\x12\x1a\n\x12endpo'
    b'int_spiffe_id\x18\x01 \x01(\t"\x11\n\x0fHTTPSWebProfile"w'
    b'\n\x1aFederationRelationshipMask\x12\x1b\n\x13bundle_e'
    b'ndpoint_url\x18\x01 \x01(\x08\x12\x1f\n\x17bundle_endpoint_pro'
    b'file\x18\x02 \x01(\x08\x12\x1b\n\x13trust_domain_bundle\x18\x03 \x01(\x08"'
    b'.\n\tJoinToken\x12\r\n\x05value\x18\x01 \x01(\t\x12\x12\n\nexpires_a'
    b't\x18\x02 \x01(\x03"t\n\x07JWTSVID\x12\r\n\x05token\x18\x01 \x01(\t\x12%\n\x02id\x18'
    b'\x02 \x01(\x0b2\x19.spire.api.types.SPIFFEID\x12\x12\n\nexpi'
    b'res_at\x18\x03 \x01(\x03\x12\x11\n\tissued_at\x18\x04 \x01(\x03\x12\x0c\n\x04hint\x18'
    b'\x05 \x01(\t"k\n\x06Logger\x120\n\rcurrent_level\x18\x01 \x01(\x0e2\x19'
    b'.spire.api.types.LogLevel\x12/\n\x0claunch_leve'
    b'l\x18\x02 \x01(\x0e2\x19.spire.api.types.LogLevel"\'\n\x06St'
    b'atus\x12\x0c\n\x04code\x18\x01 \x01(\x05\x12\x0f\n\x07message\x18\x02 \x01(\t"\xde\x01\n\x17'
    b'PermissionDeniedDetails\x12?\n\x06reason\x18\x01 \x01(\x0e2'
    b'/.spire.api.types.PermissionDeniedDetail'
    b's.Reason"\x81\x01\n\x06Reason\x12\x0b\n\x07UNKNOWN\x10\x00\x12\x11\n\rAGEN'
    b'T_EXPIRED\x10\x01\x12\x16\n\x12AGENT_NOT_ATTESTED\x10\x02\x12\x14\n\x10A'
    b'GENT_NOT_ACTIVE\x10\x03\x12\x10\n\x0cAGENT_BANNED\x10\x04\x12\x17\n\x13A'
    b'GENT_MUST_REATTEST\x10\x05"t\n\x07WITSVID\x12\r\n\x05token'
    b'\x18\x01 \x01(\t\x12%\n\x02id\x18\x02 \x01(\x0b2\x19.spire.api.types.SPI'
    b'FFEID\x12\x12\n\nexpires_at\x18\x03 \x01(\x03\x12\x11\n\tissued_at\x18\x04'
    b' \x01(\x03\x12\x0c\n\x04hint\x18\x05 \x01(\t"g\n\x08X509SVID\x12\x12\n\ncert_c'
    b'hain\x18\x01 \x03(\x0c\x12%\n\x02id\x18\x02 \x01(\x0b2\x19.spire.api.types'
    b'.SPIFFEID\x12\x12\n\nexpires_at\x18\x03 \x01(\x03\x12\x0c\n\x04hint\x18\x04 '
    b'\x01(\t*f\n\x08LogLevel\x12\x0f\n\x0bUNSPECIFIED\x10\x00\x12\t\n\x05PANI'
    b'C\x10\x01\x12\t\n\x05FATAL\x10\x02\x12\t\n\x05ERROR\x10\x03\x12\x08\n\x04WARN\x10\x04\x12\x08\n\x04I'
    b'NFO\x10\x05\x12\t\n\x05DEBUG\x10\x06\x12\t\n\x05TRACE\x10\x07b\x06proto3'
)
Selector = _pool.message_class("spire.api.types.Selector", __name__)
SelectorMatch = _pool.message_class("spire.api.types.SelectorMatch", __name__)
SPIFFEID = _pool.message_class("spire.api.types.SPIFFEID", __name__)
Agent = _pool.message_class("spire.api.types.Agent", __name__)
AgentMask = _pool.message_class("spire.api.types.AgentMask", __name__)
AttestationData = _pool.message_class("spire.api.types.AttestationData", __name__)
Bundle = _pool.message_class("spire.api.types.Bundle", __name__)
X509Certificate = _pool.message_class("spire.api.types.X509Certificate", __name__)
JWTKey = _pool.message_class("spire.api.types.JWTKey", __name__)
WITKey = _pool.message_class("spire.api.types.WITKey", __name__)
BundleMask = _pool.message_class("spire.api.types.BundleMask", __name__)
Entry = _pool.message_class("spire.api.types.Entry", __name__)
EntryMask = _pool.message_class("spire.api.types.EntryMask", __name__)
FederatesWithMatch = _pool.message_class("spire.api.types.FederatesWithMatch", __name__)
FederationRelationship = _pool.message_class("spire.api.types.FederationRelationship", __name__)
HTTPSSPIFFEProfile = _pool.message_class("spire.api.types.HTTPSSPIFFEProfile", __name__)
HTTPSWebProfile = _pool.message_class("spire.api.types.HTTPSWebProfile", __name__)
FederationRelationshipMask = _pool.message_class("spire.api.types.FederationRelationshipMask", __name__)
JoinToken = _pool.message_class("spire.api.types.JoinToken", __name__)
JWTSVID = _pool.message_class("spire.api.types.JWTSVID", __name__)
Logger = _pool.message_class("spire.api.types.Logger", __name__)
Status = _pool.message_class("spire.api.types.Status", __name__)
PermissionDeniedDetails = _pool.message_class("spire.api.types.PermissionDeniedDetails", __name__)
WITSVID = _pool.message_class("spire.api.types.WITSVID", __name__)
X509SVID = _pool.message_class("spire.api.types.X509SVID", __name__)
LogLevel = _pool.enum("spire.api.types.LogLevel")
UNSPECIFIED = 0
PANIC = 1
FATAL = 2
ERROR = 3
WARN = 4
INFO = 5
DEBUG = 6
TRACE = 7
