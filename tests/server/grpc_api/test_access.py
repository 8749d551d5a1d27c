"""The table of who may call what: complete, and closed for what it does not know."""

import pytest

from authsec_sdk.proto import health_grpc, reflection_v1_grpc, reflection_v1alpha_grpc
from authsec_sdk.proto.spire import (
    agent_grpc,
    bundle_grpc,
    debug_grpc,
    entry_grpc,
    localauthority_grpc,
    logger_grpc,
    svid_grpc,
    trustdomain_grpc,
)
from icp_server.grpc_api.access import ACCESS, OPERATOR, Right, access_of

SERVED = (
    agent_grpc.AgentBase,
    bundle_grpc.BundleBase,
    entry_grpc.EntryBase,
    svid_grpc.SVIDBase,
    localauthority_grpc.LocalAuthorityBase,
    trustdomain_grpc.TrustDomainBase,
    logger_grpc.LoggerBase,
    debug_grpc.DebugBase,
    reflection_v1_grpc.ServerReflectionBase,
    reflection_v1alpha_grpc.ServerReflectionBase,
    health_grpc.HealthBase,
)


def test_every_method_served_has_a_row_and_every_row_a_method() -> None:
    served = {method for base in SERVED for method in base().__mapping__()}
    assert served == set(ACCESS)


def test_no_row_is_open_to_nobody() -> None:
    assert all(right is not Right.NOBODY for right in ACCESS.values())


def test_an_unknown_method_is_for_nobody() -> None:
    assert access_of("/spire.api.server.agent.v1.Agent/NewMethod") is Right.NOBODY


def test_only_attestation_and_the_bundle_need_no_certificate() -> None:
    assert {method.rpartition("/")[2] for method, right in ACCESS.items() if Right.ANY in right} == {
        "AttestAgent",
        "GetBundle",
    }


@pytest.mark.parametrize("method", [method for method, right in ACCESS.items() if Right.AGENT in right])
def test_what_agents_may_do_operators_may_not_but_for_federated_bundles(method: str) -> None:
    assert ACCESS[method] & OPERATOR == Right.NOBODY or method.endswith("/GetFederatedBundle")
