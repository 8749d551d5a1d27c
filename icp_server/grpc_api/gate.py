"""May this caller make this call? `access` says who may; here it is found out whether the caller is one."""

from __future__ import annotations

from dataclasses import dataclass

from authsec_sdk.spiffe import SpiffeID
from icp_server.domain.agent import Agent
from icp_server.domain.errors import AgentDenied, PermissionDenied
from icp_server.grpc_api.access import Right, access_of
from icp_server.grpc_api.caller import Caller, CallerCertificate
from icp_server.services.agents import AgentService
from icp_server.services.entries import EntryService


@dataclass(frozen=True, slots=True)
class Admission:
    """As what a caller was let in, by what evidence, and, for an agent, its record."""

    authorized_as: str
    authorized_via: str
    agent: Agent | None = None


NOBODY = Admission("nobody", "")
LOCAL = Admission("local", "transport")


class Gate:
    """Decides about each call anew, so a ban or a deleted entry counts from the next call on."""

    def __init__(self, agents: AgentService, entries: EntryService, admin_ids: frozenset[SpiffeID]) -> None:
        self._agents = agents
        self._entries = entries
        self._admin_ids = admin_ids

    async def admit(self, method: str, caller: Caller) -> Admission:
        """Let the caller in, or refuse.

        Raises:
            PermissionDenied: with the reason an agent acts on where the table wanted an agent and there is one.
        """
        wanted = access_of(method)
        if Right.ANY in wanted:
            return NOBODY
        if caller.is_local:
            if Right.LOCAL in wanted:
                return LOCAL
            raise denied(method)
        certificate = caller.certificate
        if certificate is None:
            raise denied(method)
        if admission := await self._by_rights(wanted, certificate):
            return admission
        if Right.AGENT in wanted:
            return await self._as_agent(method, certificate)
        raise denied(method)

    async def _by_rights(self, wanted: Right, certificate: CallerCertificate) -> Admission | None:
        """Admin and downstream: a configured ID or an entry says so, and we have a record that we issued the SVID.

        The ID alone is not enough: a downstream CA, or whoever writes to the database, can make a certificate with it.
        """
        if not wanted & (Right.ADMIN | Right.DOWNSTREAM):
            return None
        rights = await self._entries.rights(certificate.spiffe_id, certificate.fingerprint)
        if Right.ADMIN in wanted and rights.admin:
            return Admission("admin", "config" if certificate.spiffe_id in self._admin_ids else "entries")
        if Right.DOWNSTREAM in wanted and rights.downstream:
            return Admission("downstream", "entries")
        return None

    async def _as_agent(self, method: str, certificate: CallerCertificate) -> Admission:
        try:
            agent = await self._agents.authorize(
                certificate.spiffe_id, certificate.serial_number, certificate.not_after
            )
        except AgentDenied as error:
            raise denied(method, error) from error
        return Admission("agent", "datastore", agent)


def denied(method: str, cause: AgentDenied | None = None) -> PermissionDenied:
    """Build the refusal in SPIRE's words; the cause's reason goes to the caller, its text to the log."""
    text = f"authorization denied for method {method}"
    return PermissionDenied(text, cause.reason) if cause else PermissionDenied(text)
