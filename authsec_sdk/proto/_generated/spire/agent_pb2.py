# Written by authsec_sdk.proto.generate from authsec_sdk/proto/spire/agent.proto. Do not edit.
"""Messages of authsec_sdk/proto/spire/agent.proto, in the pool of our own."""

from authsec_sdk.proto import _pool
from authsec_sdk.proto._generated.spire import types_pb2  # noqa: F401 - its descriptors must be there first
from authsec_sdk.proto._generated import empty_pb2  # noqa: F401 - its descriptors must be there first
from authsec_sdk.proto._generated import wrappers_pb2  # noqa: F401 - its descriptors must be there first

DESCRIPTOR = _pool.add_file(
    b'\n#authsec_sdk/proto/spire/agent.proto\x12\x19s'
    b'pire.api.server.agent.v1\x1a#authsec_sdk/pr'
    b'oto/spire/types.proto\x1a\x1bgoogle/protobuf/e'
    b'mpty.proto\x1a\x1egoogle/protobuf/wrappers.pro'
    b'to"\xbc\x02\n\x12CountAgentsRequest\x12D\n\x06filter\x18\x01 \x01('
    b'\x0b24.spire.api.server.agent.v1.CountAgent'
    b'sRequest.Filter\x1a\xdf\x01\n\x06Filter\x12\x1b\n\x13by_attesta'
    b'tion_type\x18\x01 \x01(\t\x129\n\x11by_selector_match\x18\x02 \x01'
    b'(\x0b2\x1e.spire.api.types.SelectorMatch\x12-\n\tby'
    b'_banned\x18\x03 \x01(\x0b2\x1a.google.protobuf.BoolValu'
    b'e\x123\n\x0fby_can_reattest\x18\x04 \x01(\x0b2\x1a.google.prot'
    b'obuf.BoolValue\x12\x19\n\x11by_expires_before\x18\x05 \x01('
    b'\t"$\n\x13CountAgentsResponse\x12\r\n\x05count\x18\x01 \x01(\x05"'
    b'\x92\x03\n\x11ListAgentsRequest\x12C\n\x06filter\x18\x01 \x01(\x0b23.'
    b'spire.api.server.agent.v1.ListAgentsRequ'
    b'est.Filter\x12/\n\x0boutput_mask\x18\x02 \x01(\x0b2\x1a.spire.'
    b'api.types.AgentMask\x12\x11\n\tpage_size\x18\x03 \x01(\x05\x12\x12'
    b'\n\npage_token\x18\x04 \x01(\t\x1a\xdf\x01\n\x06Filter\x12\x1b\n\x13by_atte'
    b'station_type\x18\x01 \x01(\t\x129\n\x11by_selector_match\x18'
    b'\x02 \x01(\x0b2\x1e.spire.api.types.SelectorMatch\x12-\n'
    b'\tby_banned\x18\x03 \x01(\x0b2\x1a.google.protobuf.BoolV'
    b'alue\x123\n\x0fby_can_reattest\x18\x04 \x01(\x0b2\x1a.google.p'
    b'rotobuf.BoolValue\x12\x19\n\x11by_expires_before\x18\x05'
    b' \x01(\t"U\n\x12ListAgentsResponse\x12&\n\x06agents\x18\x01 \x03'
    b'(\x0b2\x16.spire.api.types.Agent\x12\x17\n\x0fnext_page_'
    b'token\x18\x02 \x01(\t"i\n\x0fGetAgentRequest\x12%\n\x02id\x18\x01 \x01'
    b'(\x0b2\x19.spire.api.types.SPIFFEID\x12/\n\x0boutput_'
    b'mask\x18\x02 \x01(\x0b2\x1a.spire.api.types.AgentMask";'
    b'\n\x12DeleteAgentRequest\x12%\n\x02id\x18\x01 \x01(\x0b2\x19.spire'
    b'.api.types.SPIFFEID"8\n\x0fBanAgentRequest\x12%'
    b'\n\x02id\x18\x01 \x01(\x0b2\x19.spire.api.types.SPIFFEID"\xfc\x01'
    b'\n\x12AttestAgentRequest\x12F\n\x06params\x18\x01 \x01(\x0b24.s'
    b'pire.api.server.agent.v1.AttestAgentRequ'
    b'est.ParamsH\x00\x12\x1c\n\x12challenge_response\x18\x02 \x01(\x0c'
    b'H\x00\x1ax\n\x06Params\x12.\n\x04data\x18\x01 \x01(\x0b2 .spire.api.t'
    b'ypes.AttestationData\x12>\n\x06params\x18\x02 \x01(\x0b2..s'
    b'pire.api.server.agent.v1.AgentX509SVIDPa'
    b'ramsB\x06\n\x04step"\xc4\x01\n\x13AttestAgentResponse\x12G\n\x06'
    b'result\x18\x01 \x01(\x0b25.spire.api.server.agent.v1'
    b'.AttestAgentResponse.ResultH\x00\x12\x13\n\tchallen'
    b"ge\x18\x02 \x01(\x0cH\x00\x1aG\n\x06Result\x12'\n\x04svid\x18\x01 \x01(\x0b2\x19.spi"
    b're.api.types.X509SVID\x12\x14\n\x0creattestable\x18\x02 '
    b'\x01(\x08B\x06\n\x04step"S\n\x11RenewAgentRequest\x12>\n\x06para'
    b'ms\x18\x01 \x01(\x0b2..spire.api.server.agent.v1.Age'
    b'ntX509SVIDParams"=\n\x12RenewAgentResponse\x12\''
    b'\n\x04svid\x18\x01 \x01(\x0b2\x19.spire.api.types.X509SVID"'
    b'a\n\x16CreateJoinTokenRequest\x12\x0b\n\x03ttl\x18\x01 \x01(\x05\x12\r'
    b'\n\x05token\x18\x02 \x01(\t\x12+\n\x08agent_id\x18\x03 \x01(\x0b2\x19.spire.'
    b'api.types.SPIFFEID""\n\x13AgentX509SVIDParam'
    b's\x12\x0b\n\x03csr\x18\x01 \x01(\x0c"I\n\x11PostStatusRequest\x12\x1d\n\x15c'
    b'urrent_bundle_serial\x18\x01 \x01(\x04\x12\x15\n\ragent_vers'
    b'ion\x18\x02 \x01(\t"\x14\n\x12PostStatusResponse2\x80\x07\n\x05Agen'
    b't\x12l\n\x0bCountAgents\x12-.spire.api.server.agen'
    b't.v1.CountAgentsRequest\x1a..spire.api.serv'
    b'er.agent.v1.CountAgentsResponse\x12i\n\nListA'
    b'gents\x12,.spire.api.server.agent.v1.ListAg'
    b'entsRequest\x1a-.spire.api.server.agent.v1.'
    b'ListAgentsResponse\x12N\n\x08GetAgent\x12*.spire.a'
    b'pi.server.agent.v1.GetAgentRequest\x1a\x16.spi'
    b're.api.types.Agent\x12T\n\x0bDeleteAgent\x12-.spir'
    b'e.api.server.agent.v1.DeleteAgentRequest'
    b'\x1a\x16.google.protobuf.Empty\x12N\n\x08BanAgent\x12*.s'
    b'pire.api.server.agent.v1.BanAgentRequest'
    b'\x1a\x16.google.protobuf.Empty\x12p\n\x0bAttestAgent\x12'
    b'-.spire.api.server.agent.v1.AttestAgentR'
    b'equest\x1a..spire.api.server.agent.v1.Attes'
    b'tAgentResponse(\x010\x01\x12i\n\nRenewAgent\x12,.spire'
    b'.api.server.agent.v1.RenewAgentRequest\x1a-'
    b'.spire.api.server.agent.v1.RenewAgentRes'
    b'ponse\x12`\n\x0fCreateJoinToken\x121.spire.api.ser'
    b'ver.agent.v1.CreateJoinTokenRequest\x1a\x1a.sp'
    b'ire.api.types.JoinToken\x12i\n\nPostStatus\x12,.'
    b'spire.api.server.agent.v1.PostStatusRequ'
    b'est\x1a-.spire.api.server.agent.v1.PostStat'
    b'usResponseb\x06proto3'
)
CountAgentsRequest = _pool.message_class("spire.api.server.agent.v1.CountAgentsRequest", __name__)
CountAgentsResponse = _pool.message_class("spire.api.server.agent.v1.CountAgentsResponse", __name__)
ListAgentsRequest = _pool.message_class("spire.api.server.agent.v1.ListAgentsRequest", __name__)
ListAgentsResponse = _pool.message_class("spire.api.server.agent.v1.ListAgentsResponse", __name__)
GetAgentRequest = _pool.message_class("spire.api.server.agent.v1.GetAgentRequest", __name__)
DeleteAgentRequest = _pool.message_class("spire.api.server.agent.v1.DeleteAgentRequest", __name__)
BanAgentRequest = _pool.message_class("spire.api.server.agent.v1.BanAgentRequest", __name__)
AttestAgentRequest = _pool.message_class("spire.api.server.agent.v1.AttestAgentRequest", __name__)
AttestAgentResponse = _pool.message_class("spire.api.server.agent.v1.AttestAgentResponse", __name__)
RenewAgentRequest = _pool.message_class("spire.api.server.agent.v1.RenewAgentRequest", __name__)
RenewAgentResponse = _pool.message_class("spire.api.server.agent.v1.RenewAgentResponse", __name__)
CreateJoinTokenRequest = _pool.message_class("spire.api.server.agent.v1.CreateJoinTokenRequest", __name__)
AgentX509SVIDParams = _pool.message_class("spire.api.server.agent.v1.AgentX509SVIDParams", __name__)
PostStatusRequest = _pool.message_class("spire.api.server.agent.v1.PostStatusRequest", __name__)
PostStatusResponse = _pool.message_class("spire.api.server.agent.v1.PostStatusResponse", __name__)
