"""The table from refusals to statuses: complete, and in upstream's names."""

import inspect

import pytest
from grpclib.const import Status

from icp_server.domain import errors
from icp_server.grpc_api.errors import STATUS_OF, denied_details, item_status, status_name, status_of


def _refusals() -> list[type[errors.ServiceError]]:
    return [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.ServiceError) and kind is not errors.ServiceError
    ]


def test_every_refusal_has_a_row() -> None:
    assert set(_refusals()) == set(STATUS_OF)


def test_a_subclass_without_a_row_is_answered_as_what_it_is_a_kind_of() -> None:
    class NoSuchEntry(errors.NotFound):
        pass

    assert status_of(NoSuchEntry("entry not found")) is Status.NOT_FOUND


def test_items_carry_code_and_text() -> None:
    assert (item_status(None).code, item_status(None).message) == (0, "OK")
    status = item_status(errors.AlreadyExists("similar entry already exists"))
    assert (status.code, status.message) == (6, "similar entry already exists")


@pytest.mark.parametrize(
    ("code", "name"),
    [(0, "OK"), (1, "Canceled"), (3, "InvalidArgument"), (5, "NotFound"), (16, "Unauthenticated"), (99, "Code(99)")],
)
def test_codes_are_named_as_go_names_them(code: int, name: str) -> None:
    assert status_name(code) == name


def test_only_a_reason_an_agent_acts_on_travels_in_the_details() -> None:
    reason = errors.DenialReason.AGENT_BANNED
    details = denied_details(errors.AgentDenied("agent is banned", reason))
    assert details is not None
    assert details.reason == 4
    assert denied_details(errors.PermissionDenied("no")) is None
    assert denied_details(errors.NotFound("no")) is None
