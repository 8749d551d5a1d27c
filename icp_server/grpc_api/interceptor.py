"""What surrounds every call: who calls, may they, what is logged and audited, and which status a refusal becomes."""

from __future__ import annotations

import logging

from authsec_sdk.rpc import Call, GRPCError, Proceed, Status
from icp_server.audit.trail import AuditTrail, render
from icp_server.domain.errors import Internal, ServiceError
from icp_server.grpc_api.caller import caller_of
from icp_server.grpc_api.errors import denied_details, status_name, status_of
from icp_server.grpc_api.gate import Gate
from icp_server.grpc_api.request import ATTRIBUTE, Request
from icp_server.telemetry import ServerCounters

logger = logging.getLogger(__name__)


class Interceptor:
    """Runs around each handler of both listeners."""

    def __init__(self, gate: Gate, trail: AuditTrail, counters: ServerCounters) -> None:
        self._gate = gate
        self._trail = trail
        self._counters = counters

    async def __call__(self, call: Call, proceed: Proceed) -> None:
        """Admit the call and let its handler run; turn what a service refuses with into a gRPC status.

        Raises:
            GRPCError: the call is refused or failed.
        """
        request = Request(method=call.method, caller=caller_of(call.peer), gate=self._gate, trail=self._trail)
        call.attributes[ATTRIBUTE] = request
        self._counters.calls.increment(method=call.method)
        try:
            await request.admit()
            await proceed()
        except ServiceError as error:
            self._counters.refusals.increment(status=status_name(status_of(error).value))
            _log(request, error)
            request.record_failure(status_of(error).value, error.message)
            details = denied_details(error)
            raise GRPCError(status_of(error), error.message, [details] if details else None) from error
        except GRPCError as error:
            if error.status is not Status.OK:
                _log_status(request, error)
                request.record_failure(error.status.value, error.message or "")
            raise
        except Exception:
            request.record_failure(Status.INTERNAL.value, "internal error")
            raise  # `rpc` logs it with its traceback and tells the caller no more than that
        request.record_success()


def _log(request: Request, error: ServiceError) -> None:
    """Tell the operator, with the cause that the caller was not told."""
    cause = f" error={error.__cause__}" if error.__cause__ else ""
    level = logging.ERROR if isinstance(error, Internal) else logging.WARNING
    logger.log(
        level,
        "%s %s%s",
        _sentence(error.message),
        render({**request.identity(), "status_code": status_name(status_of(error).value)}),
        cause,
        exc_info=error.__cause__ if isinstance(error, Internal) else None,
    )


def _log_status(request: Request, error: GRPCError) -> None:
    logger.info(
        "%s %s",
        _sentence(error.message or error.status.name),
        render({**request.identity(), "status_code": status_name(error.status.value)}),
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
