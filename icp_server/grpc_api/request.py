"""The call being served: who made it and what its audit line will say. Handlers reach it with `current_request()`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from authsec_sdk.proto.spire import types_pb2
from authsec_sdk.rpc import current_call
from icp_server.audit.trail import AuditTrail
from icp_server.domain.agent import Agent
from icp_server.domain.errors import Internal
from icp_server.grpc_api.caller import Caller
from icp_server.grpc_api.errors import status_name
from icp_server.grpc_api.gate import Admission, Gate

ATTRIBUTE: Final = "icp_server.request"


@dataclass(slots=True)
class Request:
    """One call, from the moment its caller is known."""

    method: str
    caller: Caller
    gate: Gate
    trail: AuditTrail
    admission: Admission | None = None
    _fields: dict[str, object] = field(default_factory=dict)
    _items_recorded: bool = False
    _id: str = ""

    @property
    def id(self) -> str:
        """What ties the lines about this call together; most calls have none, so it is made when first asked for."""
        if not self._id:
            self._id = str(uuid.uuid4())
        return self._id

    async def admit(self) -> None:
        """Judge the caller, as it stands now: before the handler runs, and again while a stream goes on.

        Raises:
            PermissionDenied: the caller may not, or no longer, make this call.
        """
        self.admission = await self.gate.admit(self.method, self.caller)

    @property
    def agent(self) -> Agent:
        """The agent that calls.

        Raises:
            Internal: the table of `access` let in somebody else, so the handler is wrong about its own method.
        """
        if self.admission is None or self.admission.agent is None:
            raise Internal("caller ID missing from request context")
        return self.admission.agent

    def note(self, **fields: object) -> None:
        """Add fields to what the audit line of this call says."""
        self._fields.update(fields)

    def identity(self) -> dict[str, object]:
        """Name call and caller, as in every line about them."""
        service, _, method = self.method.removeprefix("/").removeprefix("spire.api.server.").partition("/")
        named: dict[str, object] = {"request_id": self.id, "service": service, "method": method}
        if self.admission is not None:
            named["authorized_as"] = self.admission.authorized_as
            named["authorized_via"] = self.admission.authorized_via
        return named | dict(self.caller.fields())

    def record_item(self, status: types_pb2.Status, fields: Mapping[str, object]) -> None:
        """Write the audit line of one item of a batch; the call as a whole then needs none."""
        self._items_recorded = True
        failed = status_name(status.code) if status.code else ""
        self.trail.record(self.identity(), fields, status=failed, message=status.message)

    def record_success(self) -> None:
        """Write the audit line of a call that went well, unless each of its items has one."""
        if self.trail.enabled and not self._items_recorded:
            self.trail.record(self.identity(), self._fields)

    def record_failure(self, code: int, message: str) -> None:
        """Write the audit line of a call that was refused or failed."""
        self.trail.record(self.identity(), self._fields, status=status_name(code), message=message)


def current_request() -> Request:
    """Return the call this task serves."""
    request = current_call().attributes[ATTRIBUTE]
    assert isinstance(request, Request)
    return request
