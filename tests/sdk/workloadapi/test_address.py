"""SPIFFE Workload Endpoint, section 4: where the agent is, and what to do when the address is wrong."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.errors import InvalidEndpointError
from authsec_sdk.workloadapi import TCPEndpoint, UnixEndpoint, resolve_endpoint
from authsec_sdk.workloadapi.address import MAX_SOCKET_PATH, parse_endpoint

GOOD = [
    ("unix:///run/agent.sock", UnixEndpoint("/run/agent.sock")),
    ("unix:/run/agent.sock", UnixEndpoint("/run/agent.sock")),
    ("UNIX:///run/agent.sock", UnixEndpoint("/run/agent.sock")),
    ("unix:///run/a%20b%3F.sock", UnixEndpoint("/run/a b?.sock")),
    ("/run/agent.sock", UnixEndpoint("/run/agent.sock")),
    ("/run/100%/a?b#c.sock", UnixEndpoint("/run/100%/a?b#c.sock")),
    ("tcp://1.2.3.4:5", TCPEndpoint("1.2.3.4", 5)),
    ("tcp://127.0.0.1:65535", TCPEndpoint("127.0.0.1", 65535)),
    ("tcp://[::1]:8000", TCPEndpoint("::1", 8000)),
    ("tcp://[0:0:0:0:0:0:0:1]:8000", TCPEndpoint("::1", 8000)),
]
WRONG = [
    ("", "empty"),
    ("blah", "neither a URI nor an absolute path"),
    ("run/agent.sock", "neither a URI nor an absolute path"),
    ("\t", "control"),
    ("unix:///run/agent.sock\n", "control"),
    (" unix:///run/agent.sock", "blanks"),
    ("unix:///run/%00agent.sock", "control"),
    ("unix:///run/agent%0A.sock", "control"),
    ("unix:///run/%zz.sock", "%25"),
    ("unix:opaque", "did you mean unix:///opaque"),
    ("unix:", "names no socket"),
    ("unix://", "names no socket"),
    ("unix:///", "names no socket"),
    ("unix:///run/spire/", "names a directory"),
    ("unix://foo", "did you mean unix:///foo"),
    ("unix://foo/bar.sock", "did you mean unix:///foo/bar.sock"),
    ("unix://john:doe@foo/path", "user information"),
    ("unix:///run/agent.sock?whatever", "query"),
    ("unix:///run/agent.sock#whatever", "fragment"),
    ("unix:///" + "a" * MAX_SOCKET_PATH, "shorter directory"),
    ("/" + "a" * MAX_SOCKET_PATH, "shorter directory"),
    ("tcp:opaque", "two slashes"),
    ("tcp://", "must name a host"),
    ("tcp://:80", "must name a host"),
    ("tcp://1.2.3.4:5?whatever", "query"),
    ("tcp://1.2.3.4:5#whatever", "fragment"),
    ("tcp://john:doe@1.2.3.4:5/path", "user information"),
    ("tcp://1.2.3.4:5/path", "must not have a path"),
    ("tcp://1.2.3.4:5/", "must not have a path"),
    ("tcp://foo", "IP address"),
    ("tcp://localhost:80", "IP address"),
    ("tcp://1.2.3.4", "port"),
    ("tcp://1.2.3.4:", "port"),
    ("tcp://1.2.3.4:0", "port"),
    ("tcp://1.2.3.4:65536", "port"),
    ("tcp://1.2.3.4:8o", "port"),
    ("tcp://1.2.3.4:٣", "port"),
    ("tcp://1.2.3.4:-1", "port"),
    ("tcp://::1:80", "must name a host"),
    ("tcp://[::1", "IP address"),
    ("tcp://[1.2.3.4]:80", "IP address"),
    ("tcp://[fe80::1%25eth0]:80", "IP address"),
    ("npipe:spire-agent", "scheme unix or tcp"),
    ("http://127.0.0.1:80", "scheme unix or tcp"),
]


@pytest.mark.parametrize(("text", "endpoint"), GOOD)
def test_good_address(text: str, endpoint: UnixEndpoint | TCPEndpoint) -> None:
    assert resolve_endpoint(text, {}) == endpoint
    assert resolve_endpoint(None, {"SPIFFE_ENDPOINT_SOCKET": text}) == endpoint
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_wrong_address_says_what_to_do(text: str, words: str) -> None:
    with pytest.raises(InvalidEndpointError) as caught:
        resolve_endpoint(text, {})
    assert words in str(caught.value)
    assert len(str(caught.value)) < 800


def test_an_explicit_address_wins_over_the_environment() -> None:
    environ = {"SPIFFE_ENDPOINT_SOCKET": "unix:///from/environment"}
    assert resolve_endpoint("unix:///explicit", environ) == UnixEndpoint("/explicit")
    assert resolve_endpoint(None, environ) == UnixEndpoint("/from/environment")


@pytest.mark.parametrize("environ", [{}, {"SPIFFE_ENDPOINT_SOCKET": ""}])
def test_no_address_at_all_is_an_error_and_nothing_is_guessed(environ: dict[str, str]) -> None:
    with pytest.raises(InvalidEndpointError, match="SPIFFE_ENDPOINT_SOCKET"):
        resolve_endpoint(None, environ)


def test_errors_name_the_variable_the_address_came_from() -> None:
    with pytest.raises(InvalidEndpointError, match="SPIFFE_ENDPOINT_SOCKET 'unix://foo'"):
        resolve_endpoint(None, {"SPIFFE_ENDPOINT_SOCKET": "unix://foo"})


def test_only_text_is_an_address() -> None:
    with pytest.raises(InvalidEndpointError, match="must be str, not bytes"):
        resolve_endpoint(b"/run/agent.sock", {})  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract sockets")
@pytest.mark.parametrize("text", ["unix-abstract:spire", "@spire"])
def test_abstract_sockets(text: str) -> None:
    endpoint = resolve_endpoint(text, {})
    assert endpoint == UnixEndpoint("spire", abstract=True)
    assert endpoint.socket_address == b"\0spire"
    assert str(endpoint) == "unix-abstract:spire"


@pytest.mark.parametrize("text", ["unix-abstract:", "@", "@" + "a" * 200])
def test_wrong_abstract_sockets(text: str) -> None:
    with pytest.raises(InvalidEndpointError):
        resolve_endpoint(text, {})


@given(st.text(max_size=300))
def test_any_text_is_an_endpoint_or_an_endpoint_error(text: str) -> None:
    try:
        endpoint = parse_endpoint(text)
    except InvalidEndpointError:
        return
    assert parse_endpoint(str(endpoint)) == endpoint


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=25).map(lambda text: "/" + text))
def test_a_path_survives_its_own_uri(path: str) -> None:
    if path.endswith("/") or path != path.strip():
        return
    assert parse_endpoint(str(UnixEndpoint(path))) == UnixEndpoint(path)
