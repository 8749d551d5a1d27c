# Written by authsec_sdk.proto.generate from authsec_sdk/proto/spire/trustdomain.proto. Do not edit.
"""Messages of authsec_sdk/proto/spire/trustdomain.proto, in the pool of our own."""

from authsec_sdk.proto import _pool
from authsec_sdk.proto._generated.spire import types_pb2  # noqa: F401 - its descriptors must be there first
from authsec_sdk.proto._generated import empty_pb2  # noqa: F401 - its descriptors must be there first

DESCRIPTOR = _pool.add_file(
    b'\n)authsec_sdk/proto/spire/trustdomain.pr'
    b'oto\x12\x1fspire.api.server.trustdomain.v1\x1a#au'
    b'thsec_sdk/proto/spire/types.proto\x1a\x1bgoogl'
    b'e/protobuf/empty.proto"\x8d\x01\n"ListFederatio'
    b'nRelationshipsRequest\x12@\n\x0boutput_mask\x18\x01 \x01'
    b'(\x0b2+.spire.api.types.FederationRelations'
    b'hipMask\x12\x11\n\tpage_size\x18\x02 \x01(\x05\x12\x12\n\npage_token'
    b'\x18\x03 \x01(\t"\x89\x01\n#ListFederationRelationshipsRe'
    b'sponse\x12I\n\x18federation_relationships\x18\x01 \x03(\x0b'
    b"2'.spire.api.types.FederationRelationshi"
    b'p\x12\x17\n\x0fnext_page_token\x18\x02 \x01(\t"z\n GetFederat'
    b'ionRelationshipRequest\x12\x14\n\x0ctrust_domain\x18\x01'
    b' \x01(\t\x12@\n\x0boutput_mask\x18\x02 \x01(\x0b2+.spire.api.ty'
    b'pes.FederationRelationshipMask"\xb7\x01\n(Batch'
    b'CreateFederationRelationshipRequest\x12I\n\x18f'
    b"ederation_relationships\x18\x01 \x03(\x0b2'.spire.ap"
    b'i.types.FederationRelationship\x12@\n\x0boutput'
    b'_mask\x18\x02 \x01(\x0b2+.spire.api.types.Federation'
    b'RelationshipMask"\x8c\x02\n)BatchCreateFederati'
    b'onRelationshipResponse\x12b\n\x07results\x18\x01 \x03(\x0b2'
    b'Q.spire.api.server.trustdomain.v1.BatchC'
    b'reateFederationRelationshipResponse.Resu'
    b"lt\x1a{\n\x06Result\x12'\n\x06status\x18\x01 \x01(\x0b2\x17.spire.api"
    b'.types.Status\x12H\n\x17federation_relationship'
    b"\x18\x02 \x01(\x0b2'.spire.api.types.FederationRelat"
    b'ionship"\xf8\x01\n(BatchUpdateFederationRelatio'
    b'nshipRequest\x12I\n\x18federation_relationships'
    b"\x18\x01 \x03(\x0b2'.spire.api.types.FederationRelat"
    b'ionship\x12?\n\ninput_mask\x18\x02 \x01(\x0b2+.spire.api.'
    b'types.FederationRelationshipMask\x12@\n\x0boutp'
    b'ut_mask\x18\x03 \x01(\x0b2+.spire.api.types.Federati'
    b'onRelationshipMask"\x8c\x02\n)BatchUpdateFedera'
    b'tionRelationshipResponse\x12b\n\x07results\x18\x01 \x03('
    b'\x0b2Q.spire.api.server.trustdomain.v1.Batc'
    b'hUpdateFederationRelationshipResponse.Re'
    b"sult\x1a{\n\x06Result\x12'\n\x06status\x18\x01 \x01(\x0b2\x17.spire.a"
    b'pi.types.Status\x12H\n\x17federation_relationsh'
    b"ip\x18\x02 \x01(\x0b2'.spire.api.types.FederationRel"
    b'ationship"A\n(BatchDeleteFederationRelati'
    b'onshipRequest\x12\x15\n\rtrust_domains\x18\x01 \x03(\t"\xd8\x01\n'
    b')BatchDeleteFederationRelationshipRespon'
    b'se\x12b\n\x07results\x18\x01 \x03(\x0b2Q.spire.api.server.t'
    b'rustdomain.v1.BatchDeleteFederationRelat'
    b"ionshipResponse.Result\x1aG\n\x06Result\x12'\n\x06stat"
    b'us\x18\x01 \x01(\x0b2\x17.spire.api.types.Status\x12\x14\n\x0ctru'
    b'st_domain\x18\x02 \x01(\t",\n\x14RefreshBundleRequest\x12'
    b'\x14\n\x0ctrust_domain\x18\x01 \x01(\t2\xd9\x07\n\x0bTrustDomain\x12\xa8\x01'
    b'\n\x1bListFederationRelationships\x12C.spire.ap'
    b'i.server.trustdomain.v1.ListFederationRe'
    b'lationshipsRequest\x1aD.spire.api.server.tr'
    b'ustdomain.v1.ListFederationRelationships'
    b'Response\x12\x87\x01\n\x19GetFederationRelationship\x12A'
    b'.spire.api.server.trustdomain.v1.GetFede'
    b"rationRelationshipRequest\x1a'.spire.api.ty"
    b'pes.FederationRelationship\x12\xba\x01\n!BatchCrea'
    b'teFederationRelationship\x12I.spire.api.ser'
    b'ver.trustdomain.v1.BatchCreateFederation'
    b'RelationshipRequest\x1aJ.spire.api.server.t'
    b'rustdomain.v1.BatchCreateFederationRelat'
    b'ionshipResponse\x12\xba\x01\n!BatchUpdateFederatio'
    b'nRelationship\x12I.spire.api.server.trustdo'
    b'main.v1.BatchUpdateFederationRelationshi'
    b'pRequest\x1aJ.spire.api.server.trustdomain.'
    b'v1.BatchUpdateFederationRelationshipResp'
    b'onse\x12\xba\x01\n!BatchDeleteFederationRelationsh'
    b'ip\x12I.spire.api.server.trustdomain.v1.Bat'
    b'chDeleteFederationRelationshipRequest\x1aJ.'
    b'spire.api.server.trustdomain.v1.BatchDel'
    b'eteFederationRelationshipResponse\x12^\n\rRef'
    b'reshBundle\x125.spire.api.server.trustdomai'
    b'n.v1.RefreshBundleRequest\x1a\x16.google.proto'
    b'buf.Emptyb\x06proto3'
)
ListFederationRelationshipsRequest = _pool.message_class("spire.api.server.trustdomain.v1.ListFederationRelationshipsRequest", __name__)
ListFederationRelationshipsResponse = _pool.message_class("spire.api.server.trustdomain.v1.ListFederationRelationshipsResponse", __name__)
GetFederationRelationshipRequest = _pool.message_class("spire.api.server.trustdomain.v1.GetFederationRelationshipRequest", __name__)
BatchCreateFederationRelationshipRequest = _pool.message_class("spire.api.server.trustdomain.v1.BatchCreateFederationRelationshipRequest", __name__)
BatchCreateFederationRelationshipResponse = _pool.message_class("spire.api.server.trustdomain.v1.BatchCreateFederationRelationshipResponse", __name__)
BatchUpdateFederationRelationshipRequest = _pool.message_class("spire.api.server.trustdomain.v1.BatchUpdateFederationRelationshipRequest", __name__)
BatchUpdateFederationRelationshipResponse = _pool.message_class("spire.api.server.trustdomain.v1.BatchUpdateFederationRelationshipResponse", __name__)
BatchDeleteFederationRelationshipRequest = _pool.message_class("spire.api.server.trustdomain.v1.BatchDeleteFederationRelationshipRequest", __name__)
BatchDeleteFederationRelationshipResponse = _pool.message_class("spire.api.server.trustdomain.v1.BatchDeleteFederationRelationshipResponse", __name__)
RefreshBundleRequest = _pool.message_class("spire.api.server.trustdomain.v1.RefreshBundleRequest", __name__)
