from collections.abc import Callable

import pytest

from authsec_sdk.errors import InvalidSpiffeIDError
from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire import reserved_ids


def test_the_ids_spire_gives_itself(home: TrustDomain) -> None:
    assert str(reserved_ids.server_id(home)) == "spiffe://example.org/spire/server"
    assert str(reserved_ids.agent_id(home, "x509pop", "ab12")) == "spiffe://example.org/spire/agent/x509pop/ab12"
    assert str(reserved_ids.join_token_agent_id(home, "t-1")) == "spiffe://example.org/spire/agent/join_token/t-1"


@pytest.mark.parametrize("token", ["", "a/b", "..", "a b", "ä", "a%2Fb"])
def test_a_join_token_is_exactly_one_path_segment(home: TrustDomain, token: str) -> None:
    with pytest.raises(InvalidSpiffeIDError):
        reserved_ids.join_token_agent_id(home, token)


def test_an_agent_id_names_more_than_its_attestor(home: TrustDomain) -> None:
    with pytest.raises(InvalidSpiffeIDError):
        reserved_ids.agent_id(home, "x509pop")


@pytest.mark.parametrize(
    ("path", "reserved", "agent", "server"),
    [
        ("/spire", True, False, False),
        ("/spire/server", True, False, True),
        ("/spire/agent", True, False, False),
        ("/spire/agent/join_token/x", True, True, False),
        ("/spire/anything", True, False, False),
        ("/spirea", False, False, False),
        ("/web", False, False, False),
        ("", False, False, False),
    ],
)
def test_namespaces(path: str, reserved: bool, agent: bool, server: bool) -> None:
    spiffe_id = SpiffeID.parse(f"spiffe://example.org{path}")
    assert reserved_ids.is_reserved(spiffe_id) is reserved
    assert reserved_ids.is_agent_id(spiffe_id) is agent
    assert reserved_ids.is_server_id(spiffe_id) is server


def test_the_namespace_of_one_attestor_is_not_its_prefix() -> None:
    spiffe_id = SpiffeID.parse("spiffe://example.org/spire/agent/x509popular/a")
    assert reserved_ids.is_agent_id_of(spiffe_id, "x509popular")
    assert not reserved_ids.is_agent_id_of(spiffe_id, "x509pop")


@pytest.mark.parametrize(
    ("check", "text", "message"),
    [
        (
            reserved_ids.check_member_id,
            "spiffe://other.org/a",
            '"spiffe://other.org/a" is not a member of trust domain "example.org"',
        ),
        (
            reserved_ids.check_member_id,
            "spiffe://example.org",
            '"spiffe://example.org" is not a member of trust domain "example.org"; path is empty',
        ),
        (
            reserved_ids.check_agent_id,
            "spiffe://example.org",
            '"spiffe://example.org" is not an agent in trust domain "example.org"; path is empty',
        ),
        (
            reserved_ids.check_agent_id,
            "spiffe://example.org/a",
            (
                '"spiffe://example.org/a" is not an agent in trust domain "example.org"; '
                "path is not in the agent namespace"
            ),
        ),
        (
            reserved_ids.check_workload_id,
            "spiffe://example.org/spire/server",
            (
                '"spiffe://example.org/spire/server" is not a workload in trust domain "example.org"; '
                "path is in the reserved namespace"
            ),
        ),
        (
            reserved_ids.check_workload_id,
            "spiffe://example.org",
            '"spiffe://example.org" is not a workload in trust domain "example.org"; path is empty',
        ),
    ],
)
def test_refusals_say_what_spire_says(
    home: TrustDomain, check: Callable[[TrustDomain, SpiffeID], None], text: str, message: str
) -> None:
    with pytest.raises(InvalidSpiffeIDError) as caught:
        check(home, SpiffeID.parse(text))
    assert str(caught.value) == message


def test_right_ids_pass(home: TrustDomain) -> None:
    reserved_ids.check_member_id(home, SpiffeID.parse("spiffe://example.org/spire/server"))
    reserved_ids.check_agent_id(home, SpiffeID.parse("spiffe://example.org/spire/agent/join_token/x"))
    reserved_ids.check_workload_id(home, SpiffeID.parse("spiffe://example.org/a"))
