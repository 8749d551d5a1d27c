"""``authsec fetch`` and ``authsec watch``, run as programs: what they print, write, and never show."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from authsec_sdk.cli import main
from authsec_sdk.filesource import FileSource
from authsec_sdk.spiffe import JWTSVID, WITSVID, TrustDomain, parse_bundle_document, parse_bundle_map
from authsec_sdk.testing import FakeWorkloadAPI, TestCA


def call(authsec: Any, agent: FakeWorkloadAPI, *arguments: object, code: int = 0) -> Any:
    """Run a command for the agent; return its JSON."""
    with authsec(*arguments, "--output", "json", env={"SPIFFE_ENDPOINT_SOCKET": agent.address}) as running:
        assert running.wait() == code, running.errors()
    assert "PRIVATE" not in running.said()
    return json.loads(running.said()) if running.said() else running.errors()


def test_x509_files(authsec: Any, agent: FakeWorkloadAPI, folder: Path) -> None:
    facts = call(authsec, agent, "fetch", "x509", "--write", folder)
    names = ["svid_bundle.pem", "trust_bundles.json", "svid_key.pem", "svid.pem"]
    assert facts["written"] == [str(folder / name) for name in names]
    assert stat.S_IMODE((folder / "svid_key.pem").stat().st_mode) == 0o600
    with FileSource(folder, trust_domain="example.org") as source:
        assert str(source.x509_context.svid.id) == facts["svids"][0]["spiffe_id"]


def test_a_jwt_svid_is_written_where_asked_and_shown_nowhere(
    authsec: Any, agent: FakeWorkloadAPI, folder: Path
) -> None:
    facts = call(authsec, agent, "fetch", "jwt", "--audience", "a", "--write", folder / "token")
    token = (folder / "token").read_text()
    assert stat.S_IMODE((folder / "token").stat().st_mode) == 0o600
    assert JWTSVID.unsafe_parse(token).audience == ("a",)
    assert facts["spiffe_id"] == "spiffe://example.org/payments"
    assert facts["audience"] == ["a"]
    assert token.split(".")[2] not in json.dumps(facts)


def test_a_jwt_svid_is_printed_on_demand(authsec: Any, agent: FakeWorkloadAPI) -> None:
    with authsec("fetch", "jwt", "--audience", "a", "--audience", "b", "--print", "--socket", agent.address) as running:
        assert running.wait() == 0
    assert set(JWTSVID.unsafe_parse(running.said().strip()).audience) == {"a", "b"}


def test_a_jwt_svid_of_one_of_several_identities(authsec: Any, agent: FakeWorkloadAPI, ca: TestCA) -> None:
    agent.issue(ca, "/other")
    other = "spiffe://example.org/other"
    assert call(authsec, agent, "fetch", "jwt", "--audience", "a", "--spiffe-id", other)["spiffe_id"] == other
    said = call(authsec, agent, "fetch", "jwt", "--audience", "a", "--spiffe-id", f"{other}/none", code=1)
    assert "no identity" in said


def test_a_jwt_svid_needs_an_audience(authsec: Any, agent: FakeWorkloadAPI) -> None:
    assert "--audience" in call(authsec, agent, "fetch", "jwt", code=2)


def test_wit_svids(authsec: Any, agent: FakeWorkloadAPI, folder: Path) -> None:
    facts = call(authsec, agent, "fetch", "wit", "--write", folder)
    token, key = (folder / "wit_svid.token").read_text(), (folder / "wit_svid_key.json").read_text()
    assert str(WITSVID.parse(token, key).id) == facts["svids"][0]["spiffe_id"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert json.loads(key)["d"] not in json.dumps(facts)


def test_an_agent_without_wit_svids(authsec: Any, agent: FakeWorkloadAPI) -> None:
    agent.tokens.wit = False
    assert "does not take this call" in call(authsec, agent, "fetch", "wit", code=1)


@pytest.mark.parametrize(
    ("kind", "key"), [("x509", "x509_authorities"), ("jwt", "jwt_authorities"), ("wit", "wit_authorities")]
)
def test_bundles(authsec: Any, agent: FakeWorkloadAPI, folder: Path, kind: str, key: str) -> None:
    agent.federate(TestCA("other.org"))
    facts = call(authsec, agent, "fetch", "bundles", "--kind", kind, "--write", folder / "map.json")
    assert [bundle["trust_domain"] for bundle in facts["bundles"]] == ["example.org", "other.org"]
    assert all(bundle[f"{kind}_authorities"] for bundle in facts["bundles"])
    assert sorted(map(str, parse_bundle_map((folder / "map.json").read_bytes()))) == ["example.org", "other.org"]


def test_one_bundle_as_pem(authsec: Any, agent: FakeWorkloadAPI, folder: Path, ca: TestCA) -> None:
    agent.federate(TestCA("other.org"))
    said = call(authsec, agent, "fetch", "bundles", "--write", folder / "b.pem", code=1)
    assert "does not say whose" in said
    call(authsec, agent, "fetch", "bundles", "--trust-domain", "example.org", "--write", folder / "b.pem")
    assert x509.load_pem_x509_certificates((folder / "b.pem").read_bytes()) == [ca.certificate]
    assert "no bundle of nobody.test" in call(
        authsec, agent, "fetch", "bundles", "--trust-domain", "nobody.test", code=1
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--url", "https://a.test"], "--trust-domain"),
        (["--url", "https://a.test", "--trust-domain", "a.test", "--kind", "jwt"], "--kind is for"),
        (["--url", "https://a.test", "--trust-domain", "a.test", "--endpoint-id", "spiffe://a.test/x"], "go together"),
        (["--ca-file", "x"], "are for --url"),
    ],
)
def test_wrong_use_of_federation(authsec: Any, agent: FakeWorkloadAPI, arguments: list[str], words: str) -> None:
    assert words in call(authsec, agent, "fetch", "bundles", *arguments, code=2)


def test_a_folder_that_is_not_there(authsec: Any, agent: FakeWorkloadAPI, folder: Path) -> None:
    assert "cannot be written to" in call(authsec, agent, "fetch", "x509", "--write", folder / "none", code=1)


def test_options_may_stand_before_the_kind(agent: FakeWorkloadAPI, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "--socket", agent.address, "--output", "json", "bundles"]) == 0
    assert json.loads(capsys.readouterr().out)["bundles"][0]["trust_domain"] == "example.org"


def test_json_keys_stay(authsec: Any, agent: FakeWorkloadAPI) -> None:
    """docs/reference/authsec.md promises them."""
    svid = {
        "spiffe_id",
        "hint",
        "serial_number",
        "not_before",
        "not_after",
        "expires_in_seconds",
        "certificates",
        "sha256",
    }
    facts = call(authsec, agent, "fetch")
    assert (facts.keys(), facts["svids"][0].keys()) == ({"svids", "trusted_authorities"}, svid)
    jwt = {"spiffe_id", "audience", "hint", "key_id", "not_after", "expires_in_seconds"}
    assert call(authsec, agent, "fetch", "jwt", "--audience", "a").keys() == jwt
    bundle = {
        "trust_domain",
        "x509_authorities",
        "jwt_authorities",
        "wit_authorities",
        "sequence_number",
        "refresh_hint_seconds",
    }
    assert call(authsec, agent, "fetch", "bundles")["bundles"][0].keys() == bundle


@pytest.mark.parametrize("kind", ["x509", "x509-bundles", "jwt-bundles", "wit", "wit-bundles"])
def test_watch(authsec: Any, agent: FakeWorkloadAPI, kind: str) -> None:
    with authsec("watch", kind, "--count", "2", "--output", "json", "--socket", agent.address) as running:
        running.until(lambda: running.said().count("\n") == 1)
        agent.rotate(root=True)
        agent.tokens.rotate_keys()
        assert running.wait() == 0
    first, second = map(json.loads, running.said().splitlines())
    first.pop("time")
    second.pop("time")
    assert first != second


@pytest.mark.parametrize("kind", ["x509", "jwt-bundles", "wit"])
def test_watch_for_people(authsec: Any, agent: FakeWorkloadAPI, kind: str) -> None:
    with authsec("watch", kind, "--count", "1", "--socket", agent.address) as running:
        assert running.wait() == 0
    assert "example.org" in running.said()
    assert "\x1b" not in running.said()


def test_a_bundle_document_is_read_back(ca: TestCA, folder: Path, authsec: Any, agent: FakeWorkloadAPI) -> None:
    call(authsec, agent, "fetch", "bundles", "--write", folder / "map.json")
    document = json.loads((folder / "map.json").read_text())["trust_domains"]["example.org"]
    parsed = parse_bundle_document(TrustDomain("example.org"), json.dumps(document).encode())
    assert parsed.x509_authorities == (ca.certificate,)
