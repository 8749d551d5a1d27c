# Written by authsec_sdk.proto.generate from authsec_sdk/proto/spire/bundle.proto. Do not edit.
"""Messages of authsec_sdk/proto/spire/bundle.proto, in the pool of our own."""

from authsec_sdk.proto import _pool
from authsec_sdk.proto._generated.spire import types_pb2  # noqa: F401 - its descriptors must be there first

DESCRIPTOR = _pool.add_file(
    b'\n$authsec_sdk/proto/spire/bundle.proto\x12\x1a'
    b'spire.api.server.bundle.v1\x1a#authsec_sdk/'
    b'proto/spire/types.proto"\x15\n\x13CountBundlesR'
    b'equest"%\n\x14CountBundlesResponse\x12\r\n\x05count\x18'
    b'\x01 \x01(\x05"D\n\x10GetBundleRequest\x120\n\x0boutput_mask'
    b'\x18\x01 \x01(\x0b2\x1b.spire.api.types.BundleMask"\xe7\x01\n\x13'
    b'AppendBundleRequest\x12:\n\x10x509_authorities\x18'
    b'\x01 \x03(\x0b2 .spire.api.types.X509Certificate\x12'
    b'0\n\x0fjwt_authorities\x18\x02 \x03(\x0b2\x17.spire.api.typ'
    b'es.JWTKey\x120\n\x0boutput_mask\x18\x03 \x01(\x0b2\x1b.spire.a'
    b'pi.types.BundleMask\x120\n\x0fwit_authorities\x18\x04'
    b' \x03(\x0b2\x17.spire.api.types.WITKey"L\n\x1aPublish'
    b'JWTAuthorityRequest\x12.\n\rjwt_authority\x18\x01 \x01'
    b'(\x0b2\x17.spire.api.types.JWTKey"O\n\x1bPublishJW'
    b'TAuthorityResponse\x120\n\x0fjwt_authorities\x18\x01 '
    b'\x03(\x0b2\x17.spire.api.types.JWTKey"L\n\x1aPublishW'
    b'ITAuthorityRequest\x12.\n\rwit_authority\x18\x01 \x01('
    b'\x0b2\x17.spire.api.types.WITKey"O\n\x1bPublishWIT'
    b'AuthorityResponse\x120\n\x0fwit_authorities\x18\x01 \x03'
    b'(\x0b2\x17.spire.api.types.WITKey"v\n\x1bListFeder'
    b'atedBundlesRequest\x120\n\x0boutput_mask\x18\x01 \x01(\x0b2'
    b'\x1b.spire.api.types.BundleMask\x12\x11\n\tpage_siz'
    b'e\x18\x02 \x01(\x05\x12\x12\n\npage_token\x18\x03 \x01(\t"a\n\x1cListFeder'
    b'atedBundlesResponse\x12(\n\x07bundles\x18\x01 \x03(\x0b2\x17.s'
    b'pire.api.types.Bundle\x12\x17\n\x0fnext_page_token'
    b'\x18\x02 \x01(\t"c\n\x19GetFederatedBundleRequest\x12\x14\n\x0ct'
    b'rust_domain\x18\x01 \x01(\t\x120\n\x0boutput_mask\x18\x02 \x01(\x0b2\x1b'
    b'.spire.api.types.BundleMask"~\n!BatchCrea'
    b"teFederatedBundleRequest\x12'\n\x06bundle\x18\x01 \x03(\x0b"
    b'2\x17.spire.api.types.Bundle\x120\n\x0boutput_mask'
    b'\x18\x02 \x01(\x0b2\x1b.spire.api.types.BundleMask"\xd8\x01\n"'
    b'BatchCreateFederatedBundleResponse\x12V\n\x07re'
    b'sults\x18\x01 \x03(\x0b2E.spire.api.server.bundle.v1'
    b'.BatchCreateFederatedBundleResponse.Resu'
    b"lt\x1aZ\n\x06Result\x12'\n\x06status\x18\x01 \x01(\x0b2\x17.spire.api"
    b".types.Status\x12'\n\x06bundle\x18\x02 \x01(\x0b2\x17.spire.ap"
    b'i.types.Bundle"\xaf\x01\n!BatchUpdateFederatedB'
    b"undleRequest\x12'\n\x06bundle\x18\x01 \x03(\x0b2\x17.spire.api"
    b'.types.Bundle\x12/\n\ninput_mask\x18\x02 \x01(\x0b2\x1b.spir'
    b'e.api.types.BundleMask\x120\n\x0boutput_mask\x18\x03 '
    b'\x01(\x0b2\x1b.spire.api.types.BundleMask"\xd8\x01\n"Bat'
    b'chUpdateFederatedBundleResponse\x12V\n\x07resul'
    b'ts\x18\x01 \x03(\x0b2E.spire.api.server.bundle.v1.Ba'
    b'tchUpdateFederatedBundleResponse.Result\x1a'
    b"Z\n\x06Result\x12'\n\x06status\x18\x01 \x01(\x0b2\x17.spire.api.ty"
    b"pes.Status\x12'\n\x06bundle\x18\x02 \x01(\x0b2\x17.spire.api.t"
    b'ypes.Bundle"{\n\x1eBatchSetFederatedBundleRe'
    b"quest\x12'\n\x06bundle\x18\x01 \x03(\x0b2\x17.spire.api.types."
    b'Bundle\x120\n\x0boutput_mask\x18\x02 \x01(\x0b2\x1b.spire.api.'
    b'types.BundleMask"\xd2\x01\n\x1fBatchSetFederatedBu'
    b'ndleResponse\x12S\n\x07results\x18\x01 \x03(\x0b2B.spire.ap'
    b'i.server.bundle.v1.BatchSetFederatedBund'
    b"leResponse.Result\x1aZ\n\x06Result\x12'\n\x06status\x18\x01 "
    b"\x01(\x0b2\x17.spire.api.types.Status\x12'\n\x06bundle\x18\x02"
    b' \x01(\x0b2\x17.spire.api.types.Bundle"\xbe\x01\n!BatchD'
    b'eleteFederatedBundleRequest\x12\x15\n\rtrust_dom'
    b'ains\x18\x01 \x03(\t\x12P\n\x04mode\x18\x02 \x01(\x0e2B.spire.api.ser'
    b'ver.bundle.v1.BatchDeleteFederatedBundle'
    b'Request.Mode"0\n\x04Mode\x12\x0c\n\x08RESTRICT\x10\x00\x12\n\n\x06DE'
    b'LETE\x10\x01\x12\x0e\n\nDISSOCIATE\x10\x02"\xc5\x01\n"BatchDeleteFe'
    b'deratedBundleResponse\x12V\n\x07results\x18\x01 \x03(\x0b2E'
    b'.spire.api.server.bundle.v1.BatchDeleteF'
    b'ederatedBundleResponse.Result\x1aG\n\x06Result\x12'
    b"'\n\x06status\x18\x01 \x01(\x0b2\x17.spire.api.types.Status"
    b'\x12\x14\n\x0ctrust_domain\x18\x02 \x01(\t2\x9c\x0b\n\x06Bundle\x12q\n\x0cCou'
    b'ntBundles\x12/.spire.api.server.bundle.v1.C'
    b'ountBundlesRequest\x1a0.spire.api.server.bu'
    b'ndle.v1.CountBundlesResponse\x12R\n\tGetBundl'
    b'e\x12,.spire.api.server.bundle.v1.GetBundle'
    b'Request\x1a\x17.spire.api.types.Bundle\x12X\n\x0cAppe'
    b'ndBundle\x12/.spire.api.server.bundle.v1.Ap'
    b'pendBundleRequest\x1a\x17.spire.api.types.Bund'
    b'le\x12\x86\x01\n\x13PublishJWTAuthority\x126.spire.api.s'
    b'erver.bundle.v1.PublishJWTAuthorityReque'
    b'st\x1a7.spire.api.server.bundle.v1.PublishJ'
    b'WTAuthorityResponse\x12\x86\x01\n\x13PublishWITAuthor'
    b'ity\x126.spire.api.server.bundle.v1.Publish'
    b'WITAuthorityRequest\x1a7.spire.api.server.b'
    b'undle.v1.PublishWITAuthorityResponse\x12\x89\x01\n'
    b'\x14ListFederatedBundles\x127.spire.api.server'
    b'.bundle.v1.ListFederatedBundlesRequest\x1a8'
    b'.spire.api.server.bundle.v1.ListFederate'
    b'dBundlesResponse\x12d\n\x12GetFederatedBundle\x125'
    b'.spire.api.server.bundle.v1.GetFederated'
    b'BundleRequest\x1a\x17.spire.api.types.Bundle\x12\x9b'
    b'\x01\n\x1aBatchCreateFederatedBundle\x12=.spire.ap'
    b'i.server.bundle.v1.BatchCreateFederatedB'
    b'undleRequest\x1a>.spire.api.server.bundle.v'
    b'1.BatchCreateFederatedBundleResponse\x12\x9b\x01\n'
    b'\x1aBatchUpdateFederatedBundle\x12=.spire.api.'
    b'server.bundle.v1.BatchUpdateFederatedBun'
    b'dleRequest\x1a>.spire.api.server.bundle.v1.'
    b'BatchUpdateFederatedBundleResponse\x12\x92\x01\n\x17B'
    b'atchSetFederatedBundle\x12:.spire.api.serve'
    b'r.bundle.v1.BatchSetFederatedBundleReque'
    b'st\x1a;.spire.api.server.bundle.v1.BatchSet'
    b'FederatedBundleResponse\x12\x9b\x01\n\x1aBatchDeleteF'
    b'ederatedBundle\x12=.spire.api.server.bundle'
    b'.v1.BatchDeleteFederatedBundleRequest\x1a>.'
    b'spire.api.server.bundle.v1.BatchDeleteFe'
    b'deratedBundleResponseb\x06proto3'
)
CountBundlesRequest = _pool.message_class("spire.api.server.bundle.v1.CountBundlesRequest", __name__)
CountBundlesResponse = _pool.message_class("spire.api.server.bundle.v1.CountBundlesResponse", __name__)
GetBundleRequest = _pool.message_class("spire.api.server.bundle.v1.GetBundleRequest", __name__)
AppendBundleRequest = _pool.message_class("spire.api.server.bundle.v1.AppendBundleRequest", __name__)
PublishJWTAuthorityRequest = _pool.message_class("spire.api.server.bundle.v1.PublishJWTAuthorityRequest", __name__)
PublishJWTAuthorityResponse = _pool.message_class("spire.api.server.bundle.v1.PublishJWTAuthorityResponse", __name__)
PublishWITAuthorityRequest = _pool.message_class("spire.api.server.bundle.v1.PublishWITAuthorityRequest", __name__)
PublishWITAuthorityResponse = _pool.message_class("spire.api.server.bundle.v1.PublishWITAuthorityResponse", __name__)
ListFederatedBundlesRequest = _pool.message_class("spire.api.server.bundle.v1.ListFederatedBundlesRequest", __name__)
ListFederatedBundlesResponse = _pool.message_class("spire.api.server.bundle.v1.ListFederatedBundlesResponse", __name__)
GetFederatedBundleRequest = _pool.message_class("spire.api.server.bundle.v1.GetFederatedBundleRequest", __name__)
BatchCreateFederatedBundleRequest = _pool.message_class("spire.api.server.bundle.v1.BatchCreateFederatedBundleRequest", __name__)
BatchCreateFederatedBundleResponse = _pool.message_class("spire.api.server.bundle.v1.BatchCreateFederatedBundleResponse", __name__)
BatchUpdateFederatedBundleRequest = _pool.message_class("spire.api.server.bundle.v1.BatchUpdateFederatedBundleRequest", __name__)
BatchUpdateFederatedBundleResponse = _pool.message_class("spire.api.server.bundle.v1.BatchUpdateFederatedBundleResponse", __name__)
BatchSetFederatedBundleRequest = _pool.message_class("spire.api.server.bundle.v1.BatchSetFederatedBundleRequest", __name__)
BatchSetFederatedBundleResponse = _pool.message_class("spire.api.server.bundle.v1.BatchSetFederatedBundleResponse", __name__)
BatchDeleteFederatedBundleRequest = _pool.message_class("spire.api.server.bundle.v1.BatchDeleteFederatedBundleRequest", __name__)
BatchDeleteFederatedBundleResponse = _pool.message_class("spire.api.server.bundle.v1.BatchDeleteFederatedBundleResponse", __name__)
