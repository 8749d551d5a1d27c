"""``authsec policy`` as a person or a script runs it, and PostgreSQL's lines made of a policy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from authsec_sdk.authz import Policy
from authsec_sdk.cli import main
from authsec_sdk.cli.postgres_lines import Mapping
from authsec_sdk.cli.postgres_policy import policy_mappings
from authsec_sdk.errors import ConfigurationError
from authsec_sdk.policyfile import parse_policy
from authsec_sdk.spiffe import SpiffeID

GOOD = """version: 1
rules:
  - name: shop
    allow: spiffe://example.org/shop/*
    http: {paths: /orders/**, methods: [GET]}
    grpc: /shop.Orders/*
  - name: no-batch
    deny: spiffe://example.org/shop/batch
    everything: true
"""
WRONG = GOOD.replace("methods", "method").replace("/shop.Orders/*", "shop.Orders")


@pytest.fixture
def good(tmp_path: Path) -> str:
    (tmp_path / "good.yaml").write_text(GOOD)
    return str(tmp_path / "good.yaml")


@pytest.fixture
def wrong(tmp_path: Path) -> str:
    (tmp_path / "wrong.yaml").write_text(WRONG)
    return str(tmp_path / "wrong.yaml")


def test_check_names_each_error_with_line_and_key(
    good: str, wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "check", good]) == 0
    assert capsys.readouterr().out == f"{good}: good, with 2 rules (1 allow, 1 deny)\n"
    assert main(["policy", "check", good, wrong, str(tmp_path / "none.yaml"), str(tmp_path)]) == 1
    first, *errors = capsys.readouterr().out.splitlines()
    assert first.endswith("(1 allow, 1 deny)")
    assert errors[0].startswith(f"{wrong}:5:31: rules[0].http.method: there is no such key; do you mean methods?")
    assert errors[1].startswith(f"{wrong}:6:11: rules[0].grpc: 'shop.Orders': want /package.Service/Method")
    assert "No such file" in errors[2]
    assert "file name ends with" in errors[3]


def test_check_for_scripts(good: str, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check", good, wrong, "--output", "json"]) == 1
    right, not_right = json.loads(capsys.readouterr().out)["files"]
    assert right == {"file": good, "valid": True, "rules": 2, "allow": 1, "deny": 1, "warnings": []}
    assert not_right["problems"][0]["key"] == "rules[0].http.method"
    assert [not_right["problems"][0][key] for key in ("line", "column")] == [5, 31]


def test_check_keeps_to_trust_domains_and_warns(good: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check", good, "--trust-domain", "example.com"]) == 1
    assert "is outside of the trust domains" in capsys.readouterr().out
    assert main(["policy", "check", good, "--trust-domain", "Example"]) == 1
    (tmp_path / "wide.toml").write_text(
        'version = 1\nrules = [{name = "all", allow = "example.org", everything = true}]\n'
    )
    (tmp_path / "none.json").write_text('{"version": 1, "rules": []}')
    assert main(["policy", "check", str(tmp_path / "wide.toml"), str(tmp_path / "none.json")]) == 0
    out = capsys.readouterr().out
    assert "warning: rule 'all' (line 2) allows everything to a whole trust domain" in out
    assert "warning: no rule allows anything: everybody is refused" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--path", "/orders/1"], 0, "rule 'shop' (line 3) allows it"),
        (["--path", "/orders/1", "--method", "POST"], 1, "no rule allows it"),
        (["--path", "/orders//1"], 1, "its path holds an empty segment"),
        (["--grpc", "/shop.Orders/List"], 0, "rule 'shop' (line 3) allows it"),
        (["--grpc", "shop"], 1, "its method is no /package.Service/Method"),
        (["--database", "orders", "--role", "x"], 1, "no rule allows it"),
    ],
)
def test_explain(arguments: list[str], code: int, said: str, good: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["policy", "explain", good, "--peer", "spiffe://example.org/shop/web", *arguments]
    assert main(line) == code
    assert f"because: {said}" in capsys.readouterr().out
    assert main([*line, "--output", "json"]) == code
    facts = json.loads(capsys.readouterr().out)
    assert facts["decision"] == ("refused" if code else "allowed")
    assert facts["because"] == said
    assert [rule["name"] for rule in facts["rules"]] == ["no-batch", "shop"]
    assert facts["may_connect"] is True


def test_explain_says_which_rules_matched(good: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["policy", "explain", good, "--peer", "spiffe://example.org/shop/batch", "--path", "/orders"]
    assert main([*line, "--output", "json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["because"] == "rule 'no-batch' (line 7) denies it"
    assert facts["may_connect"] is False
    assert [rule["matches"] for rule in facts["rules"]] == [True, True]
    assert facts["rules"][1]["line"] == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["check"],
        ["explain", "x.yaml", "--peer", "spiffe://a/b"],
        ["explain", "x.yaml", "--path", "/"],
        ["explain", "x.yaml", "--peer", "spiffe://a/b", "--path", "/", "--grpc", "/a/B"],
        ["explain", "x.yaml", "--peer", "spiffe://a/b", "--grpc", "/a/B", "--method", "GET"],
        ["explain", "x.yaml", "--peer", "spiffe://a/b", "--database", "x"],
        ["explain", "x.yaml", "--peer", "spiffe://a/b", "--path", "/", "--role", "x"],
    ],
)
def test_wrong_use(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        main(["policy", *arguments])
    assert info.value.code == 2
    assert "usage: authsec policy" in capsys.readouterr().err


def test_explain_of_what_is_wrong(good: str, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    for file, peer in ((good, "nobody"), (wrong, "spiffe://a/b"), ("none.yaml", "spiffe://a/b")):
        assert main(["policy", "explain", file, "--peer", peer, "--path", "/"]) == 1
    assert "wrong.yaml:5:31: rules[0].http.method" in capsys.readouterr().err


# --- PostgreSQL ------------------------------------------------------------------------------------------------------

WEB, JOB = SpiffeID.parse("spiffe://example.org/web"), SpiffeID.parse("spiffe://example.org/job")


def policy(*rules: str) -> Policy:
    return parse_policy("\n".join(["version: 1", "rules:", *(f"  - {{{rule}}}" for rule in rules)]).encode(), "yaml")


def test_a_policy_becomes_the_lines_of_one_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = (
        f"name: a, allow: [{WEB}, {JOB}], database: {{names: orders, roles: [reader, writer]}}",
        f"name: b, allow: {JOB}, database: [{{names: '*', roles: job}}, {{names: stock, roles: stock}}]",
        "name: c, deny: 'spiffe://example.org/we/**', everything: true",
        f"name: d, deny: {WEB}, database: {{names: '*', roles: writer}}",
        "name: e, allow: example.org, http: {paths: /}",
    )
    expected = (Mapping(JOB, "job"), Mapping(JOB, "reader"), Mapping(JOB, "writer"), Mapping(WEB, "reader"))
    assert policy_mappings(policy(*rules), "orders") == expected
    assert policy_mappings(policy(*rules), "other") == (Mapping(JOB, "job"),)
    (tmp_path / "p.yaml").write_text("\n".join(["version: 1", "rules:", *(f"  - {{{rule}}}" for rule in rules)]))
    line = ["postgres", "ident", "--policy", str(tmp_path / "p.yaml"), "--for-database", "orders"]
    assert main(line) == 0
    out = capsys.readouterr().out
    written = [f"{each.who}={each.role}" for each in expected]
    assert main(["postgres", "ident", *written]) == 0
    assert capsys.readouterr().out == out
    for more in (["spiffe://a/b=c"], ["--by", "dns"]):
        assert main([*line, *more]) == 1
    assert main(["postgres", "ident"]) == 1
    assert main(line[:-2]) == 1


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("allow: 'spiffe://example.org/*', database: {names: orders, roles: x}", "is a pattern"),
        ("allow: example.org, database: {names: '*', roles: x}", "is a pattern"),
        (f"allow: {WEB}, database: {{names: orders, roles: '*'}}", "every role"),
        (f"allow: {WEB}, everything: true", "every role"),
    ],
)
def test_what_postgresql_cannot_say_is_an_error_with_its_line(rule: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=f"3: rule 'a' cannot be written into PostgreSQL's files: .*{why}"):
        policy_mappings(policy(f"name: a, {rule}"), "orders")
