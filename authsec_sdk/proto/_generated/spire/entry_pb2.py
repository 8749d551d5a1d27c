# Written by authsec_sdk.proto.generate from authsec_sdk/proto/spire/entry.proto. Do not edit.
"""Messages of authsec_sdk/proto/spire/entry.proto, in the pool of our own."""

from authsec_sdk.proto import _pool
from authsec_sdk.proto._generated.spire import types_pb2  # noqa: F401 - its descriptors must be there first
from authsec_sdk.proto._generated import wrappers_pb2  # noqa: F401 - its descriptors must be there first

DESCRIPTOR = _pool.add_file(
    b'\n#authsec_sdk/proto/spire/entry.proto\x12\x19s'
    b'pire.api.server.entry.v1\x1a#authsec_sdk/pr'
    b'oto/spire/types.proto\x1a\x1egoogle/protobuf/w'
    b'rappers.proto"\xa1\x03\n\x13CountEntriesRequest\x12E\n'
    b'\x06filter\x18\x01 \x01(\x0b25.spire.api.server.entry.v'
    b'1.CountEntriesRequest.Filter\x1a\xc2\x02\n\x06Filter\x12'
    b'/\n\x0cby_spiffe_id\x18\x01 \x01(\x0b2\x19.spire.api.types.'
    b'SPIFFEID\x12/\n\x0cby_parent_id\x18\x02 \x01(\x0b2\x19.spire.a'
    b'pi.types.SPIFFEID\x124\n\x0cby_selectors\x18\x03 \x01(\x0b2'
    b'\x1e.spire.api.types.SelectorMatch\x12>\n\x11by_fe'
    b'derates_with\x18\x04 \x01(\x0b2#.spire.api.types.Fed'
    b'eratesWithMatch\x12-\n\x07by_hint\x18\x05 \x01(\x0b2\x1c.googl'
    b'e.protobuf.StringValue\x121\n\rby_downstream\x18'
    b'\x06 \x01(\x0b2\x1a.google.protobuf.BoolValue"%\n\x14Cou'
    b'ntEntriesResponse\x12\r\n\x05count\x18\x01 \x01(\x05"\xf7\x03\n\x12Lis'
    b'tEntriesRequest\x12D\n\x06filter\x18\x01 \x01(\x0b24.spire.'
    b'api.server.entry.v1.ListEntriesRequest.F'
    b'ilter\x12/\n\x0boutput_mask\x18\x02 \x01(\x0b2\x1a.spire.api.t'
    b'ypes.EntryMask\x12\x11\n\tpage_size\x18\x03 \x01(\x05\x12\x12\n\npag'
    b'e_token\x18\x04 \x01(\t\x1a\xc2\x02\n\x06Filter\x12/\n\x0cby_spiffe_id'
    b'\x18\x01 \x01(\x0b2\x19.spire.api.types.SPIFFEID\x12/\n\x0cby_'
    b'parent_id\x18\x02 \x01(\x0b2\x19.spire.api.types.SPIFFE'
    b'ID\x124\n\x0cby_selectors\x18\x03 \x01(\x0b2\x1e.spire.api.typ'
    b'es.SelectorMatch\x12>\n\x11by_federates_with\x18\x04 '
    b'\x01(\x0b2#.spire.api.types.FederatesWithMatch'
    b'\x12-\n\x07by_hint\x18\x05 \x01(\x0b2\x1c.google.protobuf.Stri'
    b'ngValue\x121\n\rby_downstream\x18\x06 \x01(\x0b2\x1a.google.'
    b'protobuf.BoolValue"W\n\x13ListEntriesRespons'
    b"e\x12'\n\x07entries\x18\x01 \x03(\x0b2\x16.spire.api.types.Ent"
    b'ry\x12\x17\n\x0fnext_page_token\x18\x02 \x01(\t"N\n\x0fGetEntryR'
    b'equest\x12\n\n\x02id\x18\x01 \x01(\t\x12/\n\x0boutput_mask\x18\x02 \x01(\x0b2'
    b'\x1a.spire.api.types.EntryMask"s\n\x17BatchCrea'
    b"teEntryRequest\x12'\n\x07entries\x18\x01 \x03(\x0b2\x16.spire."
    b'api.types.Entry\x12/\n\x0boutput_mask\x18\x02 \x01(\x0b2\x1a.s'
    b'pire.api.types.EntryMask"\xc1\x01\n\x18BatchCreate'
    b'EntryResponse\x12K\n\x07results\x18\x01 \x03(\x0b2:.spire.a'
    b'pi.server.entry.v1.BatchCreateEntryRespo'
    b"nse.Result\x1aX\n\x06Result\x12'\n\x06status\x18\x01 \x01(\x0b2\x17.s"
    b'pire.api.types.Status\x12%\n\x05entry\x18\x02 \x01(\x0b2\x16.s'
    b'pire.api.types.Entry"\xa3\x01\n\x17BatchUpdateEntr'
    b"yRequest\x12'\n\x07entries\x18\x01 \x03(\x0b2\x16.spire.api.ty"
    b'pes.Entry\x12.\n\ninput_mask\x18\x02 \x01(\x0b2\x1a.spire.ap'
    b'i.types.EntryMask\x12/\n\x0boutput_mask\x18\x03 \x01(\x0b2\x1a'
    b'.spire.api.types.EntryMask"\xc1\x01\n\x18BatchUpda'
    b'teEntryResponse\x12K\n\x07results\x18\x01 \x03(\x0b2:.spire'
    b'.api.server.entry.v1.BatchUpdateEntryRes'
    b"ponse.Result\x1aX\n\x06Result\x12'\n\x06status\x18\x01 \x01(\x0b2\x17"
    b'.spire.api.types.Status\x12%\n\x05entry\x18\x02 \x01(\x0b2\x16'
    b'.spire.api.types.Entry"&\n\x17BatchDeleteEnt'
    b'ryRequest\x12\x0b\n\x03ids\x18\x01 \x03(\t"\xa6\x01\n\x18BatchDeleteEn'
    b'tryResponse\x12K\n\x07results\x18\x01 \x03(\x0b2:.spire.api'
    b'.server.entry.v1.BatchDeleteEntryRespons'
    b"e.Result\x1a=\n\x06Result\x12'\n\x06status\x18\x01 \x01(\x0b2\x17.spi"
    b're.api.types.Status\x12\n\n\x02id\x18\x02 \x01(\t"N\n\x1bGetAu'
    b'thorizedEntriesRequest\x12/\n\x0boutput_mask\x18\x01 '
    b'\x01(\x0b2\x1a.spire.api.types.EntryMask"G\n\x1cGetAu'
    b"thorizedEntriesResponse\x12'\n\x07entries\x18\x01 \x03(\x0b"
    b'2\x16.spire.api.types.Entry"\\\n\x1cSyncAuthoriz'
    b'edEntriesRequest\x12/\n\x0boutput_mask\x18\x01 \x01(\x0b2\x1a.'
    b'spire.api.types.EntryMask\x12\x0b\n\x03ids\x18\x02 \x03(\t"\x99'
    b'\x01\n\x1dSyncAuthorizedEntriesResponse\x12A\n\x0fentr'
    b'y_revisions\x18\x01 \x03(\x0b2(.spire.api.server.ent'
    b"ry.v1.EntryRevision\x12'\n\x07entries\x18\x02 \x03(\x0b2\x16.s"
    b'pire.api.types.Entry\x12\x0c\n\x04more\x18\x03 \x01(\x08"H\n\rEn'
    b'tryRevision\x12\n\n\x02id\x18\x01 \x01(\t\x12\x17\n\x0frevision_numb'
    b'er\x18\x02 \x01(\x03\x12\x12\n\ncreated_at\x18\x03 \x01(\x032\xc8\x07\n\x05Entry\x12o'
    b'\n\x0cCountEntries\x12..spire.api.server.entry.'
    b'v1.CountEntriesRequest\x1a/.spire.api.serve'
    b'r.entry.v1.CountEntriesResponse\x12l\n\x0bListE'
    b'ntries\x12-.spire.api.server.entry.v1.ListE'
    b'ntriesRequest\x1a..spire.api.server.entry.v'
    b'1.ListEntriesResponse\x12N\n\x08GetEntry\x12*.spir'
    b'e.api.server.entry.v1.GetEntryRequest\x1a\x16.'
    b'spire.api.types.Entry\x12{\n\x10BatchCreateEntr'
    b'y\x122.spire.api.server.entry.v1.BatchCreat'
    b'eEntryRequest\x1a3.spire.api.server.entry.v'
    b'1.BatchCreateEntryResponse\x12{\n\x10BatchUpdat'
    b'eEntry\x122.spire.api.server.entry.v1.Batch'
    b'UpdateEntryRequest\x1a3.spire.api.server.en'
    b'try.v1.BatchUpdateEntryResponse\x12{\n\x10Batch'
    b'DeleteEntry\x122.spire.api.server.entry.v1.'
    b'BatchDeleteEntryRequest\x1a3.spire.api.serv'
    b'er.entry.v1.BatchDeleteEntryResponse\x12\x87\x01\n'
    b'\x14GetAuthorizedEntries\x126.spire.api.server'
    b'.entry.v1.GetAuthorizedEntriesRequest\x1a7.'
    b'spire.api.server.entry.v1.GetAuthorizedE'
    b'ntriesResponse\x12\x8e\x01\n\x15SyncAuthorizedEntries'
    b'\x127.spire.api.server.entry.v1.SyncAuthori'
    b'zedEntriesRequest\x1a8.spire.api.server.ent'
    b'ry.v1.SyncAuthorizedEntriesResponse(\x010\x01b'
    b'\x06proto3'
)
CountEntriesRequest = _pool.message_class("spire.api.server.entry.v1.CountEntriesRequest", __name__)
CountEntriesResponse = _pool.message_class("spire.api.server.entry.v1.CountEntriesResponse", __name__)
ListEntriesRequest = _pool.message_class("spire.api.server.entry.v1.ListEntriesRequest", __name__)
ListEntriesResponse = _pool.message_class("spire.api.server.entry.v1.ListEntriesResponse", __name__)
GetEntryRequest = _pool.message_class("spire.api.server.entry.v1.GetEntryRequest", __name__)
BatchCreateEntryRequest = _pool.message_class("spire.api.server.entry.v1.BatchCreateEntryRequest", __name__)
BatchCreateEntryResponse = _pool.message_class("spire.api.server.entry.v1.BatchCreateEntryResponse", __name__)
BatchUpdateEntryRequest = _pool.message_class("spire.api.server.entry.v1.BatchUpdateEntryRequest", __name__)
BatchUpdateEntryResponse = _pool.message_class("spire.api.server.entry.v1.BatchUpdateEntryResponse", __name__)
BatchDeleteEntryRequest = _pool.message_class("spire.api.server.entry.v1.BatchDeleteEntryRequest", __name__)
BatchDeleteEntryResponse = _pool.message_class("spire.api.server.entry.v1.BatchDeleteEntryResponse", __name__)
GetAuthorizedEntriesRequest = _pool.message_class("spire.api.server.entry.v1.GetAuthorizedEntriesRequest", __name__)
GetAuthorizedEntriesResponse = _pool.message_class("spire.api.server.entry.v1.GetAuthorizedEntriesResponse", __name__)
SyncAuthorizedEntriesRequest = _pool.message_class("spire.api.server.entry.v1.SyncAuthorizedEntriesRequest", __name__)
SyncAuthorizedEntriesResponse = _pool.message_class("spire.api.server.entry.v1.SyncAuthorizedEntriesResponse", __name__)
EntryRevision = _pool.message_class("spire.api.server.entry.v1.EntryRevision", __name__)
