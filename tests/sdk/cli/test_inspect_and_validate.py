"""``authsec inspect`` and ``authsec validate``: every rule by name, one verdict, and no secret in any of it."""

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authsec_sdk.cli import main
from authsec_sdk.cli.x509_words import leaf_findings, signer_findings
from authsec_sdk.errors import InvalidX509SVIDError
from authsec_sdk.spiffe import (
    BundleSet,
    TrustBundle,
    check_authority,
    check_signing_certificate,
    format_bundle_document,
    format_bundle_map,
    format_key_set,
    x509_svid_id,
)
from authsec_sdk.testing import FakeWorkloadAPI, TestCA

LEAVES: list[dict[str, Any]] = [
    {},
    {"ca": True},
    {"ca": None},
    {"uris": []},
    {"uris": ["https://example.org/a"]},
    {"uris": ["spiffe://example.org"]},
    {"uris": ["spiffe://example.org/a", "https://b"]},
    {"key_usage": None},
    {"key_usage": frozenset({"key_agreement"})},
    {"key_usage": frozenset({"digital_signature", "key_cert_sign"})},
    {"key_usage": frozenset({"digital_signature", "crl_sign"})},
    {"extended_key_usage": None},
    {"extended_key_usage": []},
]


@pytest.mark.parametrize("options", LEAVES)
def test_the_words_and_the_verdict_agree(ca: TestCA, options: dict[str, Any]) -> None:
    if options.get("extended_key_usage") == []:
        from cryptography.x509.oid import ExtendedKeyUsageOID

        options = {"extended_key_usage": [ExtendedKeyUsageOID.SERVER_AUTH]}
    leaf = ca.credential("/a", **options).leaf
    broken = [finding for finding in leaf_findings(leaf) if finding["result"] != "ok"]
    try:
        x509_svid_id(leaf)
    except InvalidX509SVIDError:
        assert broken
    else:
        assert not broken


def test_signers_too(ca: TestCA) -> None:
    for certificate, good in (
        (ca.certificate, True),
        (ca.intermediate().certificate, True),
        (ca.svid("/a").leaf, False),
    ):
        for authority, check in ((True, check_authority), (False, check_signing_certificate)):
            kept = all(finding["result"] == "ok" for finding in signer_findings(certificate, authority=authority))
            try:
                check(certificate)
            except InvalidX509SVIDError:
                assert not kept
            else:
                assert kept
            assert kept is good


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Run a command on a file with this content; return its exit code and its JSON, or what it complained of."""

    def call(command: str, content: bytes | str, *arguments: object) -> tuple[int, Any]:
        path = tmp_path / "file"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        code = main([*command.split(), str(path), "--output", "json", *map(str, arguments)])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else said.err

    return call


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_inspect_names_every_broken_rule_with_its_clause(tell: Any, ca: TestCA) -> None:
    bad = ca.credential("/a", ca=True, key_usage=frozenset({"key_cert_sign"}))
    code, facts = tell("inspect", bad.chain_pem())
    broken = {(rule["clause"], rule["rule"]) for rule in facts["rules"] if rule["result"] == "BROKEN"}
    assert code == 1
    assert broken == {
        ("X509-SVID 4.1", "basic constraints say cA=false"),
        ("X509-SVID 4.3", "the key usage has digitalSignature"),
        ("X509-SVID 4.3", "the key usage has no keyCertSign"),
    }
    assert facts["verdict"].startswith("REFUSED")


def test_inspect_a_bundle_of_authorities(tell: Any, ca: TestCA) -> None:
    code, facts = tell("inspect", ca.bundle().to_pem())
    assert (code, facts["kind"]) == (0, "authorities")
    assert "PEM does not say" in facts["verdict"]


def test_inspect_a_file_with_a_key(tell: Any, ca: TestCA) -> None:
    credential = ca.credential("/a")
    code, facts = tell("inspect", credential.key_pem() + credential.chain_pem())
    assert code == 0
    assert facts["private_key"] == "there, and not shown; it is the leaf's"
    other = ca.credential("/b")
    code, facts = tell("inspect", other.key_pem() + credential.chain_pem())
    assert facts["private_key"].startswith("there, and not shown: ")
    assert "PRIVATE" not in json.dumps(facts)


def test_inspect_a_single_certificate_in_der(tell: Any, ca: TestCA) -> None:
    assert tell("inspect", ca.svid("/a").chain_der()[0])[0] == 0


def document(ca: TestCA) -> TrustBundle:
    return TrustBundle(
        ca.trust_domain, ca.bundle().authorities, ca.tokens.jwt_bundle().authorities, {}, 7, timedelta(minutes=5)
    )


def test_inspect_documents(tell: Any, ca: TestCA) -> None:
    code, facts = tell("inspect", format_bundle_document(document(ca)), "--trust-domain", "example.org")
    assert (code, facts["kind"], facts["trust_domain"]) == (0, "bundle document", "example.org")
    assert (facts["sequence_number"], facts["refresh_hint_seconds"], facts["x509_authorities"]) == (7, 300, 1)
    code, facts = tell("inspect", format_bundle_map(BundleSet.of(document(ca))))
    assert (code, facts["kind"], facts["bundles"][0]["trust_domain"]) == (0, "bundle map", "example.org")
    code, facts = tell("inspect", format_key_set(ca.tokens.jwt_bundle()))
    assert (code, facts["kind"]) == (0, "key set")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "REFUSED"),
        (b'{"keys": 1}', "must be present and be an array"),
        (b'{"keys": [], "keys": []}', "REFUSED"),
        (b'{"trust_domains": {"A": {"keys": []}}}', "no trust domain name"),
        (b'{"keys": [{"use": "jwt-svid", "kty": "EC"}]}', "REFUSED"),
    ],
)
def test_inspect_wrong_documents(tell: Any, content: bytes, words: str) -> None:
    code, facts = tell("inspect", content)
    assert code == 1
    assert words in facts["verdict"]


def test_inspect_a_key_whose_members_have_other_types(tell: Any) -> None:
    code, facts = tell("inspect", b'{"keys": [{"use": ["jwt-svid"], "kty": {}}]}')
    assert (code, facts["verdict"]) == (0, "a key set with 0 keys that count (Workload API 6.2.2)")
    assert facts["keys"][0]["says"].startswith("wrong: the member kty must be a text")


def test_inspect_a_jwt_svid_and_never_show_it(tell: Any, ca: TestCA) -> None:
    token = ca.tokens.jwt_token("/a", ["b"])
    code, facts = tell("inspect", token)
    assert (code, facts["kind"], facts["claims"]["aud"], facts["claims"]["sub"]) == (
        0,
        "JWT-SVID",
        ["b"],
        "spiffe://example.org/a",
    )
    assert token.split(".")[2] not in json.dumps(facts)


def unsigned(header: dict[str, object], claims: dict[str, object]) -> str:
    parts = [json.dumps(part).encode() for part in (header, claims)] + [b"x" * 64]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@pytest.mark.parametrize(
    ("header", "claims", "clause"),
    [
        ({"alg": "none"}, {}, "JWT-SVID 2.1"),
        ({"alg": ["ES256"]}, {}, "JWT-SVID 2.1"),
        ({"typ": "at+jwt"}, {}, "JWT-SVID 2.3"),
        ({"jku": "https://x"}, {}, "JWT-SVID 2"),
        ({}, {"sub": "me"}, "JWT-SVID 3.1"),
        ({}, {"aud": []}, "JWT-SVID 3.2"),
        ({}, {"exp": "soon"}, "JWT-SVID 3.3"),
    ],
)
def test_inspect_wrong_jwt_svids(tell: Any, header: dict[str, object], claims: dict[str, object], clause: str) -> None:
    good = {"sub": "spiffe://example.org/a", "aud": ["b"], "exp": 4102444800}
    code, facts = tell("inspect", unsigned({"alg": "ES256", "kid": "k", **header}, {**good, **claims}))
    assert code == 1
    assert [rule["clause"] for rule in facts["rules"] if rule["result"] == "BROKEN"] == [clause]


def test_inspect_an_expired_jwt_svid(tell: Any, ca: TestCA) -> None:
    code, facts = tell("inspect", ca.tokens.jwt_token("/a", ["b"], ttl=timedelta(seconds=-60)))
    assert (code, facts["verdict"]) == (1, "REFUSED: it has expired")
    assert facts["validity"].startswith("expired")


def test_inspect_a_wit_svid(tell: Any, ca: TestCA) -> None:
    code, facts = tell("inspect", ca.tokens.wit_svid("/a").token)
    assert (code, facts["kind"]) == (0, "WIT-SVID")
    assert {rule["result"] for rule in facts["rules"]} == {"ok"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.binary(max_size=300) | st.text('{}[]":,ab.-BEGIN \n', max_size=200).map(str.encode))
def test_any_bytes_have_an_answer(tell: Any, content: bytes) -> None:
    code, said = tell("inspect", content)
    assert code in (0, 1)
    assert said


def test_validate_a_jwt_svid_by_the_agent_and_by_a_bundle(
    tell: Any, ca: TestCA, agent: FakeWorkloadAPI, tmp_path: Path
) -> None:
    token = ca.tokens.jwt_token("/a", ["b"])
    code, facts = tell("validate jwt", token, "--audience", "b", "--socket", agent.address)
    assert (code, facts["verdict"], facts["by"]) == (0, "valid", "the agent")
    code, facts = tell("validate jwt", token, "--audience", "c", "--socket", agent.address)
    assert (code, facts["verdict"][:7]) == (1, "REFUSED")
    for name, content in (
        ("set", format_key_set(ca.tokens.jwt_bundle())),
        ("document", format_bundle_document(document(ca))),
        ("map", format_bundle_map(BundleSet.of(document(ca)))),
    ):
        path = write(tmp_path / name, content)
        assert tell("validate jwt", token, "--audience", "b", "--bundle", path)[0] == 0
        assert tell("validate jwt", token, "--audience", "c", "--bundle", path)[0] == 1
        forged = TestCA("example.org").tokens.jwt_token("/a", ["b"])
        assert tell("validate jwt", forged, "--audience", "b", "--bundle", path)[0] == 1
    foreign = TestCA("other.org").tokens.jwt_token("/a", ["b"])
    path = tmp_path / "map"
    assert "other.org" in tell("validate jwt", foreign, "--audience", "b", "--bundle", path)[1]["verdict"]


def test_validate_a_key_set_for_one_domain_alone(tell: Any, ca: TestCA, tmp_path: Path) -> None:
    path = write(tmp_path / "set", format_key_set(ca.tokens.jwt_bundle()))
    token = ca.tokens.jwt_token("/a", ["b"])
    code, facts = tell("validate jwt", token, "--audience", "b", "--bundle", path, "--trust-domain", "other.org")
    assert code == 1
    assert "REFUSED" in facts["verdict"]


def test_validate_x509(tell: Any, ca: TestCA, tmp_path: Path) -> None:
    chain = ca.credential("/a").chain_pem()
    good = write(tmp_path / "good", ca.bundle().to_pem())
    assert tell("validate x509", chain, "--bundle", good)[1]["spiffe_id"] == "spiffe://example.org/a"
    for wrong in (TestCA("example.org"), TestCA("other.org")):
        path = write(tmp_path / "wrong", wrong.bundle().to_pem())
        assert tell("validate x509", chain, "--bundle", path)[0] == 1
    mapped = write(tmp_path / "map", format_bundle_map(BundleSet.of(document(ca))))
    assert tell("validate x509", chain, "--bundle", mapped)[0] == 0
    late = ca.credential("/a", not_after=datetime.now(UTC) - timedelta(seconds=1)).chain_pem()
    assert tell("validate x509", late, "--bundle", good)[0] == 1


def test_validate_a_wit_svid(tell: Any, ca: TestCA, tmp_path: Path) -> None:
    path = write(tmp_path / "set", format_key_set(ca.tokens.wit_bundle()))
    token = ca.tokens.wit_svid("/a").token
    code, facts = tell("validate wit", token, "--bundle", path, "--trust-domain", "example.org")
    assert (code, facts["spiffe_id"]) == (0, "spiffe://example.org/a")
    assert facts["proof"].startswith("none")
    assert tell("validate wit", token, "--bundle", path, "--trust-domain", "other.org")[0] == 1
    assert "whose bundle" in tell("validate wit", token, "--bundle", path)[1]


def test_a_token_is_read_from_standard_input(authsec: Any, ca: TestCA) -> None:
    wrapper = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:], input=b'not a token').returncode)"
    with authsec("inspect", "-", wrapper=wrapper) as running:
        assert running.wait() == 1
    assert re.search("holds no PEM certificates", running.errors())
