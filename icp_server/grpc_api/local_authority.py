"""The LocalAuthority service: an operator moves this server's authorities by hand."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpclib.server

from authsec_sdk.proto.spire import localauthority_grpc, localauthority_pb2
from icp_server.domain.authorities import AuthorityKind
from icp_server.grpc_api.decode import request_of
from icp_server.grpc_api.request import current_request
from icp_server.services.local_authority import AuthorityState, LocalAuthorityService

_Stream: TypeAlias = "grpclib.server.Stream[Any, Any]"


class LocalAuthorityAPI(localauthority_grpc.LocalAuthorityBase):
    """Decodes, calls the use case, encodes: the same five calls for each kind of authority."""

    def __init__(self, authorities: LocalAuthorityService) -> None:
        self._authorities = authorities

    async def GetJWTAuthorityState(self, stream: _Stream) -> None:  # noqa: N802  (as all below: names on the wire)
        """Send the JWT authorities."""
        await self._get(stream, AuthorityKind.JWT, localauthority_pb2.GetJWTAuthorityStateResponse)

    async def PrepareJWTAuthority(self, stream: _Stream) -> None:  # noqa: N802
        """Make the next JWT authority."""
        await self._prepare(stream, AuthorityKind.JWT, localauthority_pb2.PrepareJWTAuthorityResponse)

    async def ActivateJWTAuthority(self, stream: _Stream) -> None:  # noqa: N802
        """Sign with the prepared JWT authority."""
        await self._activate(stream, AuthorityKind.JWT, localauthority_pb2.ActivateJWTAuthorityResponse)

    async def TaintJWTAuthority(self, stream: _Stream) -> None:  # noqa: N802
        """Mark the old JWT authority as tainted."""
        await self._taint(stream, AuthorityKind.JWT, localauthority_pb2.TaintJWTAuthorityResponse)

    async def RevokeJWTAuthority(self, stream: _Stream) -> None:  # noqa: N802
        """Take a tainted JWT authority out of the bundle."""
        await self._revoke(stream, AuthorityKind.JWT, localauthority_pb2.RevokeJWTAuthorityResponse)

    async def GetX509AuthorityState(self, stream: _Stream) -> None:  # noqa: N802
        """Send the X.509 authorities."""
        await self._get(stream, AuthorityKind.X509, localauthority_pb2.GetX509AuthorityStateResponse)

    async def PrepareX509Authority(self, stream: _Stream) -> None:  # noqa: N802
        """Make the next X.509 authority."""
        await self._prepare(stream, AuthorityKind.X509, localauthority_pb2.PrepareX509AuthorityResponse)

    async def ActivateX509Authority(self, stream: _Stream) -> None:  # noqa: N802
        """Sign with the prepared X.509 authority."""
        await self._activate(stream, AuthorityKind.X509, localauthority_pb2.ActivateX509AuthorityResponse)

    async def TaintX509Authority(self, stream: _Stream) -> None:  # noqa: N802
        """Mark the old X.509 authority as tainted."""
        await self._taint(stream, AuthorityKind.X509, localauthority_pb2.TaintX509AuthorityResponse)

    async def RevokeX509Authority(self, stream: _Stream) -> None:  # noqa: N802
        """Take a tainted X.509 authority out of the bundle."""
        await self._revoke(stream, AuthorityKind.X509, localauthority_pb2.RevokeX509AuthorityResponse)

    async def TaintX509UpstreamAuthority(self, stream: _Stream) -> None:  # noqa: N802
        """Mark what stands above the old X.509 authority as tainted."""
        done = await self._authorities.taint_upstream(await _subject_key_id(stream))
        await stream.send_message(
            localauthority_pb2.TaintX509UpstreamAuthorityResponse(upstream_authority_subject_key_id=done)
        )

    async def RevokeX509UpstreamAuthority(self, stream: _Stream) -> None:  # noqa: N802
        """Take what stands above the old X.509 authority out of the bundle."""
        done = await self._authorities.revoke_upstream(await _subject_key_id(stream))
        await stream.send_message(
            localauthority_pb2.RevokeX509UpstreamAuthorityResponse(upstream_authority_subject_key_id=done)
        )

    async def GetWITAuthorityState(self, stream: _Stream) -> None:  # noqa: N802
        """Send the WIT authorities."""
        await self._get(stream, AuthorityKind.WIT, localauthority_pb2.GetWITAuthorityStateResponse)

    async def PrepareWITAuthority(self, stream: _Stream) -> None:  # noqa: N802
        """Make the next WIT authority."""
        await self._prepare(stream, AuthorityKind.WIT, localauthority_pb2.PrepareWITAuthorityResponse)

    async def ActivateWITAuthority(self, stream: _Stream) -> None:  # noqa: N802
        """Sign with the prepared WIT authority."""
        await self._activate(stream, AuthorityKind.WIT, localauthority_pb2.ActivateWITAuthorityResponse)

    async def TaintWITAuthority(self, stream: _Stream) -> None:  # noqa: N802
        """Mark the old WIT authority as tainted."""
        await self._taint(stream, AuthorityKind.WIT, localauthority_pb2.TaintWITAuthorityResponse)

    async def RevokeWITAuthority(self, stream: _Stream) -> None:  # noqa: N802
        """Take a tainted WIT authority out of the bundle."""
        await self._revoke(stream, AuthorityKind.WIT, localauthority_pb2.RevokeWITAuthorityResponse)

    async def _get(self, stream: _Stream, kind: AuthorityKind, reply: type[Any]) -> None:
        await request_of(stream)
        states = self._authorities.states(kind)
        fields = {"active": states.active, "prepared": states.prepared, "old": states.old}
        await stream.send_message(reply(**{name: _state(state) for name, state in fields.items() if state}))

    async def _prepare(self, stream: _Stream, kind: AuthorityKind, reply: type[Any]) -> None:
        await request_of(stream)
        state = await self._authorities.prepare(kind)
        current_request().note(local_authority_id=state.authority_id)
        await stream.send_message(reply(prepared_authority=_state(state)))

    async def _activate(self, stream: _Stream, kind: AuthorityKind, reply: type[Any]) -> None:
        state = await self._authorities.activate(kind, await _authority_id(stream))
        await stream.send_message(reply(activated_authority=_state(state)))

    async def _taint(self, stream: _Stream, kind: AuthorityKind, reply: type[Any]) -> None:
        state = await self._authorities.taint(kind, await _authority_id(stream))
        await stream.send_message(reply(tainted_authority=_state(state)))

    async def _revoke(self, stream: _Stream, kind: AuthorityKind, reply: type[Any]) -> None:
        state = await self._authorities.revoke(kind, await _authority_id(stream))
        await stream.send_message(reply(revoked_authority=_state(state)))


async def _authority_id(stream: _Stream) -> str:
    message = await request_of(stream)
    authority_id = str(message.authority_id)
    current_request().note(local_authority_id=authority_id)
    return authority_id


async def _subject_key_id(stream: _Stream) -> str:
    message = await request_of(stream)
    subject_key_id = str(message.subject_key_id)
    current_request().note(subject_key_id=subject_key_id)
    return subject_key_id


def _state(state: AuthorityState) -> localauthority_pb2.AuthorityState:
    expires_at = int(state.expires_at.timestamp()) if state.expires_at else 0
    return localauthority_pb2.AuthorityState(
        authority_id=state.authority_id, expires_at=expires_at, upstream_authority_subject_key_id=state.upstream_id
    )
