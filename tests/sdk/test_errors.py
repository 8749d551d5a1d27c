"""The error family: its groups, its texts, and that errors travel between processes."""

from __future__ import annotations

import builtins
import inspect
import pickle
from typing import Any

import pytest

from authsec_sdk import errors
from authsec_sdk.spiffe import SpiffeID, TrustDomain

PEER = SpiffeID.parse("spiffe://example.org/web")
GROUPS = (
    errors.CallerError,
    errors.OperatorError,
    errors.PeerCredentialError,
    errors.PeerNotAuthorizedError,
    errors.RetryableError,
)
CLASSES = [getattr(errors, name) for name in errors.__all__]

SAMPLES: list[errors.SpiffeError] = [
    errors.InvalidSpiffeIDError("text"),
    errors.InvalidAuthorizerError("text"),
    errors.ConfigurationError("text", "server.conf", 3, 14),
    errors.WorkloadAPIError("text", 12),
    errors.NoBundleForTrustDomainError(TrustDomain("example.org")),
    errors.PeerNotAuthorizedError(PEER, "nobody", "go"),
    errors.NotReadyError("text"),
    errors.UnavailableError("text"),
]


def test_every_class_is_exported() -> None:
    defined = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert defined == set(errors.__all__)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_belongs_to_exactly_one_group(kind: type[errors.SpiffeError]) -> None:
    assert issubclass(kind, errors.SpiffeError)
    assert inspect.getdoc(kind)
    if kind is not errors.SpiffeError:
        assert sum(issubclass(kind, group) for group in GROUPS) == 1


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (errors.InvalidSpiffeIDError, ValueError),
        (errors.InvalidTrustDomainError, errors.InvalidSpiffeIDError),
        (errors.InvalidEndpointError, ValueError),
        (errors.InvalidAuthorizerError, TypeError),
        (errors.InvalidBundleError, ValueError),
        (errors.ConfigurationError, ValueError),
        (errors.InvalidX509SVIDError, ValueError),
        (errors.NotReadyError, TimeoutError),
    ],
)
def test_errors_are_also_what_python_calls_them(kind: type[Exception], also: type[Exception]) -> None:
    assert issubclass(kind, also)


def test_no_name_hides_a_builtin() -> None:
    assert not set(errors.__all__) & set(dir(builtins))


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_errors_cross_process_boundaries(error: Any) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_a_configuration_error_says_where() -> None:
    assert str(errors.ConfigurationError("no such key")) == "no such key"
    assert str(errors.ConfigurationError("no such key", "a.conf")) == "a.conf: no such key"
    assert str(errors.ConfigurationError("no such key", "a.conf", 3)) == "a.conf:3: no such key"
    assert str(errors.ConfigurationError("no such key", "a.conf", 3, 14)) == "a.conf:3:14: no such key"


def test_a_refusal_says_who_was_seen_who_was_wanted_and_what_to_do() -> None:
    error = errors.PeerNotAuthorizedError(PEER, "spiffe://example.org/db", "add it to the list")
    assert (error.spiffe_id, error.wanted, error.action) == (PEER, "spiffe://example.org/db", "add it to the list")
    assert str(error) == (
        "peer spiffe://example.org/web is not authorized; wanted: spiffe://example.org/db; add it to the list"
    )


def test_a_missing_bundle_names_the_trust_domain() -> None:
    error = errors.NoBundleForTrustDomainError(TrustDomain("far.example"))
    assert error.trust_domain == TrustDomain("far.example")
    assert "far.example" in str(error)
    assert "federate" in str(error)


def test_an_agents_answer_keeps_its_status() -> None:
    assert errors.WorkloadAPIError("denied", 7).status == 7
    assert errors.WorkloadAPIError("odd").status is None


def test_a_timeout_is_caught_as_one() -> None:
    with pytest.raises(TimeoutError, match="nothing came"):
        raise errors.NotReadyError("nothing came")
