# Written by authsec_sdk.proto.generate from authsec_sdk/proto/spire/localauthority.proto. Do not edit.
"""Messages of authsec_sdk/proto/spire/localauthority.proto, in the pool of our own."""

from authsec_sdk.proto import _pool

DESCRIPTOR = _pool.add_file(
    b'\n,authsec_sdk/proto/spire/localauthority'
    b'.proto\x12"spire.api.server.localauthority.'
    b'v1"\x1d\n\x1bGetJWTAuthorityStateRequest"\xe9\x01\n\x1cGe'
    b'tJWTAuthorityStateResponse\x12B\n\x06active\x18\x01 \x01'
    b'(\x0b22.spire.api.server.localauthority.v1.'
    b'AuthorityState\x12D\n\x08prepared\x18\x02 \x01(\x0b22.spire'
    b'.api.server.localauthority.v1.AuthorityS'
    b'tate\x12?\n\x03old\x18\x03 \x01(\x0b22.spire.api.server.loc'
    b'alauthority.v1.AuthorityState"\x1c\n\x1aPrepare'
    b'JWTAuthorityRequest"m\n\x1bPrepareJWTAuthori'
    b'tyResponse\x12N\n\x12prepared_authority\x18\x01 \x01(\x0b22'
    b'.spire.api.server.localauthority.v1.Auth'
    b'orityState"3\n\x1bActivateJWTAuthorityReques'
    b't\x12\x14\n\x0cauthority_id\x18\x01 \x01(\t"o\n\x1cActivateJWTAu'
    b'thorityResponse\x12O\n\x13activated_authority\x18\x01'
    b' \x01(\x0b22.spire.api.server.localauthority.v'
    b'1.AuthorityState"0\n\x18TaintJWTAuthorityReq'
    b'uest\x12\x14\n\x0cauthority_id\x18\x01 \x01(\t"j\n\x19TaintJWTAu'
    b'thorityResponse\x12M\n\x11tainted_authority\x18\x01 \x01'
    b'(\x0b22.spire.api.server.localauthority.v1.'
    b'AuthorityState"1\n\x19RevokeJWTAuthorityRequ'
    b'est\x12\x14\n\x0cauthority_id\x18\x01 \x01(\t"k\n\x1aRevokeJWTAu'
    b'thorityResponse\x12M\n\x11revoked_authority\x18\x01 \x01'
    b'(\x0b22.spire.api.server.localauthority.v1.'
    b'AuthorityState"\x1e\n\x1cGetX509AuthorityStateR'
    b'equest"\xea\x01\n\x1dGetX509AuthorityStateResponse'
    b'\x12B\n\x06active\x18\x01 \x01(\x0b22.spire.api.server.loca'
    b'lauthority.v1.AuthorityState\x12D\n\x08prepared'
    b'\x18\x02 \x01(\x0b22.spire.api.server.localauthority'
    b'.v1.AuthorityState\x12?\n\x03old\x18\x03 \x01(\x0b22.spire.'
    b'api.server.localauthority.v1.AuthoritySt'
    b'ate"\x1d\n\x1bPrepareX509AuthorityRequest"n\n\x1cPr'
    b'epareX509AuthorityResponse\x12N\n\x12prepared_a'
    b'uthority\x18\x01 \x01(\x0b22.spire.api.server.locala'
    b'uthority.v1.AuthorityState"4\n\x1cActivateX5'
    b'09AuthorityRequest\x12\x14\n\x0cauthority_id\x18\x01 \x01(\t'
    b'"p\n\x1dActivateX509AuthorityResponse\x12O\n\x13act'
    b'ivated_authority\x18\x01 \x01(\x0b22.spire.api.serve'
    b'r.localauthority.v1.AuthorityState"1\n\x19Ta'
    b'intX509AuthorityRequest\x12\x14\n\x0cauthority_id\x18'
    b'\x01 \x01(\t"k\n\x1aTaintX509AuthorityResponse\x12M\n\x11t'
    b'ainted_authority\x18\x01 \x01(\x0b22.spire.api.serve'
    b'r.localauthority.v1.AuthorityState"2\n\x1aRe'
    b'vokeX509AuthorityRequest\x12\x14\n\x0cauthority_id'
    b'\x18\x01 \x01(\t"l\n\x1bRevokeX509AuthorityResponse\x12M\n'
    b'\x11revoked_authority\x18\x01 \x01(\x0b22.spire.api.ser'
    b'ver.localauthority.v1.AuthorityState";\n!'
    b'TaintX509UpstreamAuthorityRequest\x12\x16\n\x0esub'
    b'ject_key_id\x18\x01 \x01(\t"O\n"TaintX509UpstreamAu'
    b'thorityResponse\x12)\n!upstream_authority_su'
    b'bject_key_id\x18\x01 \x01(\t"<\n"RevokeX509Upstream'
    b'AuthorityRequest\x12\x16\n\x0esubject_key_id\x18\x01 \x01(\t'
    b'"P\n#RevokeX509UpstreamAuthorityResponse\x12'
    b')\n!upstream_authority_subject_key_id\x18\x01 \x01'
    b'(\t"\x1d\n\x1bGetWITAuthorityStateRequest"\xe9\x01\n\x1cGe'
    b'tWITAuthorityStateResponse\x12B\n\x06active\x18\x01 \x01'
    b'(\x0b22.spire.api.server.localauthority.v1.'
    b'AuthorityState\x12D\n\x08prepared\x18\x02 \x01(\x0b22.spire'
    b'.api.server.localauthority.v1.AuthorityS'
    b'tate\x12?\n\x03old\x18\x03 \x01(\x0b22.spire.api.server.loc'
    b'alauthority.v1.AuthorityState"\x1c\n\x1aPrepare'
    b'WITAuthorityRequest"m\n\x1bPrepareWITAuthori'
    b'tyResponse\x12N\n\x12prepared_authority\x18\x01 \x01(\x0b22'
    b'.spire.api.server.localauthority.v1.Auth'
    b'orityState"3\n\x1bActivateWITAuthorityReques'
    b't\x12\x14\n\x0cauthority_id\x18\x01 \x01(\t"o\n\x1cActivateWITAu'
    b'thorityResponse\x12O\n\x13activated_authority\x18\x01'
    b' \x01(\x0b22.spire.api.server.localauthority.v'
    b'1.AuthorityState"0\n\x18TaintWITAuthorityReq'
    b'uest\x12\x14\n\x0cauthority_id\x18\x01 \x01(\t"j\n\x19TaintWITAu'
    b'thorityResponse\x12M\n\x11tainted_authority\x18\x01 \x01'
    b'(\x0b22.spire.api.server.localauthority.v1.'
    b'AuthorityState"1\n\x19RevokeWITAuthorityRequ'
    b'est\x12\x14\n\x0cauthority_id\x18\x01 \x01(\t"k\n\x1aRevokeWITAu'
    b'thorityResponse\x12M\n\x11revoked_authority\x18\x01 \x01'
    b'(\x0b22.spire.api.server.localauthority.v1.'
    b'AuthorityState"e\n\x0eAuthorityState\x12\x14\n\x0cauth'
    b'ority_id\x18\x01 \x01(\t\x12\x12\n\nexpires_at\x18\x02 \x01(\x03\x12)\n!up'
    b'stream_authority_subject_key_id\x18\x03 \x01(\t2\xec\x14'
    b'\n\x0eLocalAuthority\x12\x99\x01\n\x14GetJWTAuthorityStat'
    b'e\x12?.spire.api.server.localauthority.v1.G'
    b'etJWTAuthorityStateRequest\x1a@.spire.api.s'
    b'erver.localauthority.v1.GetJWTAuthorityS'
    b'tateResponse\x12\x96\x01\n\x13PrepareJWTAuthority\x12>.s'
    b'pire.api.server.localauthority.v1.Prepar'
    b'eJWTAuthorityRequest\x1a?.spire.api.server.'
    b'localauthority.v1.PrepareJWTAuthorityRes'
    b'ponse\x12\x99\x01\n\x14ActivateJWTAuthority\x12?.spire.a'
    b'pi.server.localauthority.v1.ActivateJWTA'
    b'uthorityRequest\x1a@.spire.api.server.local'
    b'authority.v1.ActivateJWTAuthorityRespons'
    b'e\x12\x90\x01\n\x11TaintJWTAuthority\x12<.spire.api.serv'
    b'er.localauthority.v1.TaintJWTAuthorityRe'
    b'quest\x1a=.spire.api.server.localauthority.'
    b'v1.TaintJWTAuthorityResponse\x12\x93\x01\n\x12RevokeJ'
    b'WTAuthority\x12=.spire.api.server.localauth'
    b'ority.v1.RevokeJWTAuthorityRequest\x1a>.spi'
    b're.api.server.localauthority.v1.RevokeJW'
    b'TAuthorityResponse\x12\x9c\x01\n\x15GetX509AuthorityS'
    b'tate\x12@.spire.api.server.localauthority.v'
    b'1.GetX509AuthorityStateRequest\x1aA.spire.a'
    b'pi.server.localauthority.v1.GetX509Autho'
    b'rityStateResponse\x12\x99\x01\n\x14PrepareX509Authori'
    b'ty\x12?.spire.api.server.localauthority.v1.'
    b'PrepareX509AuthorityRequest\x1a@.spire.api.'
    b'server.localauthority.v1.PrepareX509Auth'
    b'orityResponse\x12\x9c\x01\n\x15ActivateX509Authority\x12'
    b'@.spire.api.server.localauthority.v1.Act'
    b'ivateX509AuthorityRequest\x1aA.spire.api.se'
    b'rver.localauthority.v1.ActivateX509Autho'
    b'rityResponse\x12\x93\x01\n\x12TaintX509Authority\x12=.sp'
    b'ire.api.server.localauthority.v1.TaintX5'
    b'09AuthorityRequest\x1a>.spire.api.server.lo'
    b'calauthority.v1.TaintX509AuthorityRespon'
    b'se\x12\xab\x01\n\x1aTaintX509UpstreamAuthority\x12E.spir'
    b'e.api.server.localauthority.v1.TaintX509'
    b'UpstreamAuthorityRequest\x1aF.spire.api.ser'
    b'ver.localauthority.v1.TaintX509UpstreamA'
    b'uthorityResponse\x12\x96\x01\n\x13RevokeX509Authority'
    b'\x12>.spire.api.server.localauthority.v1.Re'
    b'vokeX509AuthorityRequest\x1a?.spire.api.ser'
    b'ver.localauthority.v1.RevokeX509Authorit'
    b'yResponse\x12\xae\x01\n\x1bRevokeX509UpstreamAuthorit'
    b'y\x12F.spire.api.server.localauthority.v1.R'
    b'evokeX509UpstreamAuthorityRequest\x1aG.spir'
    b'e.api.server.localauthority.v1.RevokeX50'
    b'9UpstreamAuthorityResponse\x12\x99\x01\n\x14GetWITAut'
    b'horityState\x12?.spire.api.server.localauth'
    b'ority.v1.GetWITAuthorityStateRequest\x1a@.s'
    b'pire.api.server.localauthority.v1.GetWIT'
    b'AuthorityStateResponse\x12\x96\x01\n\x13PrepareWITAut'
    b'hority\x12>.spire.api.server.localauthority'
    b'.v1.PrepareWITAuthorityRequest\x1a?.spire.a'
    b'pi.server.localauthority.v1.PrepareWITAu'
    b'thorityResponse\x12\x99\x01\n\x14ActivateWITAuthority'
    b'\x12?.spire.api.server.localauthority.v1.Ac'
    b'tivateWITAuthorityRequest\x1a@.spire.api.se'
    b'rver.localauthority.v1.ActivateWITAuthor'
    b'ityResponse\x12\x90\x01\n\x11TaintWITAuthority\x12<.spir'
    b'e.api.server.localauthority.v1.TaintWITA'
    b'uthorityRequest\x1a=.spire.api.server.local'
    b'authority.v1.TaintWITAuthorityResponse\x12\x93'
    b'\x01\n\x12RevokeWITAuthority\x12=.spire.api.server'
    b'.localauthority.v1.RevokeWITAuthorityReq'
    b'uest\x1a>.spire.api.server.localauthority.v'
    b'1.RevokeWITAuthorityResponseb\x06proto3'
)
GetJWTAuthorityStateRequest = _pool.message_class("spire.api.server.localauthority.v1.GetJWTAuthorityStateRequest", __name__)
GetJWTAuthorityStateResponse = _pool.message_class("spire.api.server.localauthority.v1.GetJWTAuthorityStateResponse", __name__)
PrepareJWTAuthorityRequest = _pool.message_class("spire.api.server.localauthority.v1.PrepareJWTAuthorityRequest", __name__)
PrepareJWTAuthorityResponse = _pool.message_class("spire.api.server.localauthority.v1.PrepareJWTAuthorityResponse", __name__)
ActivateJWTAuthorityRequest = _pool.message_class("spire.api.server.localauthority.v1.ActivateJWTAuthorityRequest", __name__)
ActivateJWTAuthorityResponse = _pool.message_class("spire.api.server.localauthority.v1.ActivateJWTAuthorityResponse", __name__)
TaintJWTAuthorityRequest = _pool.message_class("spire.api.server.localauthority.v1.TaintJWTAuthorityRequest", __name__)
TaintJWTAuthorityResponse = _pool.message_class("spire.api.server.localauthority.v1.TaintJWTAuthorityResponse", __name__)
RevokeJWTAuthorityRequest = _pool.message_class("spire.api.server.localauthority.v1.RevokeJWTAuthorityRequest", __name__)
RevokeJWTAuthorityResponse = _pool.message_class("spire.api.server.localauthority.v1.RevokeJWTAuthorityResponse", __name__)
GetX509AuthorityStateRequest = _pool.message_class("spire.api.server.localauthority.v1.GetX509AuthorityStateRequest", __name__)
GetX509AuthorityStateResponse = _pool.message_class("spire.api.server.localauthority.v1.GetX509AuthorityStateResponse", __name__)
PrepareX509AuthorityRequest = _pool.message_class("spire.api.server.localauthority.v1.PrepareX509AuthorityRequest", __name__)
PrepareX509AuthorityResponse = _pool.message_class("spire.api.server.localauthority.v1.PrepareX509AuthorityResponse", __name__)
ActivateX509AuthorityRequest = _pool.message_class("spire.api.server.localauthority.v1.ActivateX509AuthorityRequest", __name__)
ActivateX509AuthorityResponse = _pool.message_class("spire.api.server.localauthority.v1.ActivateX509AuthorityResponse", __name__)
TaintX509AuthorityRequest = _pool.message_class("spire.api.server.localauthority.v1.TaintX509AuthorityRequest", __name__)
TaintX509AuthorityResponse = _pool.message_class("spire.api.server.localauthority.v1.TaintX509AuthorityResponse", __name__)
RevokeX509AuthorityRequest = _pool.message_class("spire.api.server.localauthority.v1.RevokeX509AuthorityRequest", __name__)
RevokeX509AuthorityResponse = _pool.message_class("spire.api.server.localauthority.v1.RevokeX509AuthorityResponse", __name__)
TaintX509UpstreamAuthorityRequest = _pool.message_class("spire.api.server.localauthority.v1.TaintX509UpstreamAuthorityRequest", __name__)
TaintX509UpstreamAuthorityResponse = _pool.message_class("spire.api.server.localauthority.v1.TaintX509UpstreamAuthorityResponse", __name__)
RevokeX509UpstreamAuthorityRequest = _pool.message_class("spire.api.server.localauthority.v1.RevokeX509UpstreamAuthorityRequest", __name__)
RevokeX509UpstreamAuthorityResponse = _pool.message_class("spire.api.server.localauthority.v1.RevokeX509UpstreamAuthorityResponse", __name__)
GetWITAuthorityStateRequest = _pool.message_class("spire.api.server.localauthority.v1.GetWITAuthorityStateRequest", __name__)
GetWITAuthorityStateResponse = _pool.message_class("spire.api.server.localauthority.v1.GetWITAuthorityStateResponse", __name__)
PrepareWITAuthorityRequest = _pool.message_class("spire.api.server.localauthority.v1.PrepareWITAuthorityRequest", __name__)
PrepareWITAuthorityResponse = _pool.message_class("spire.api.server.localauthority.v1.PrepareWITAuthorityResponse", __name__)
ActivateWITAuthorityRequest = _pool.message_class("spire.api.server.localauthority.v1.ActivateWITAuthorityRequest", __name__)
ActivateWITAuthorityResponse = _pool.message_class("spire.api.server.localauthority.v1.ActivateWITAuthorityResponse", __name__)
TaintWITAuthorityRequest = _pool.message_class("spire.api.server.localauthority.v1.TaintWITAuthorityRequest", __name__)
TaintWITAuthorityResponse = _pool.message_class("spire.api.server.localauthority.v1.TaintWITAuthorityResponse", __name__)
RevokeWITAuthorityRequest = _pool.message_class("spire.api.server.localauthority.v1.RevokeWITAuthorityRequest", __name__)
RevokeWITAuthorityResponse = _pool.message_class("spire.api.server.localauthority.v1.RevokeWITAuthorityResponse", __name__)
AuthorityState = _pool.message_class("spire.api.server.localauthority.v1.AuthorityState", __name__)
