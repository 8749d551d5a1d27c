"""Documents of policies: what each rule of the format takes and refuses, and where it says the error is."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from authsec_sdk.authz.policy_document import MAX_PROBLEMS
from authsec_sdk.errors import ConfigurationError, UnavailableError
from authsec_sdk.policyfile import InvalidPolicyError, format_of, load_policy, parse_policy
from authsec_sdk.policyfile.document import MAX_BYTES
from authsec_sdk.policyfile.yaml_reader import read_yaml
from authsec_sdk.spiffe import TrustDomain

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "policy_documents.json").read_text("utf-8"))
RULE = b"version: 1\nrules:\n  - name: a\n    allow: spiffe://example.org/web\n    grpc: /*\n"


def by_name(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", [pytest.param(each, id=each["name"]) for each in VECTORS[kind]])


@by_name("good")
def test_good_documents(vector: dict[str, Any]) -> None:
    policy = parse_policy(vector["text"].encode(), vector["format"])
    assert [str(rule) for rule in policy.rules] == vector["rules"]


@by_name("wrong")
def test_wrong_documents(vector: dict[str, Any]) -> None:
    with pytest.raises(InvalidPolicyError) as info:
        parse_policy(vector["text"].encode(), vector["format"])
    problem = info.value.problems[0]
    assert (info.value.line, problem.key) == (vector["line"], vector["key"])
    assert vector["why"] in problem.message
    assert str(problem) in str(info.value)
    assert str(info.value).isprintable()


@pytest.mark.parametrize(
    "text", [pytest.param(each["text"], id=each["name"]) for each in VECTORS["wrong"] if each["format"] == "yaml"]
)
def test_both_parsers_of_yaml_see_the_same(text: str) -> None:
    def outcome(*, fast: bool) -> tuple[object, object]:
        try:
            return read_yaml(text, fast=fast), None
        except InvalidPolicyError as error:
            return None, "no YAML" if "no YAML" in error.message else (error.line, error.column, error.message)

    assert outcome(fast=False) == outcome(fast=True)


def test_all_problems_are_told_at_once_up_to_twenty() -> None:
    text = b"version: 2\nrules:\n" + b"".join(b"  - {name: '', allow: x/y, http: /a}\n" for _ in range(50))
    with pytest.raises(InvalidPolicyError, match=r"1:10: version: want 1 \(and 19 more\)") as info:
        parse_policy(text, "yaml")
    assert len(info.value.problems) == MAX_PROBLEMS
    again = pickle.loads(pickle.dumps(info.value.at("policy.yaml")))
    assert (again.problems, str(again)) == (info.value.problems, f"policy.yaml:{info.value}")


def test_a_program_says_which_trust_domains_a_document_may_name() -> None:
    domains = [TrustDomain("example.com"), TrustDomain("example.org")]
    assert parse_policy(RULE, "yaml", trust_domains=domains) == parse_policy(RULE, "yaml")
    for peer in (b"spiffe://example.org/web", b"example.org", b"spiffe://example.org/*"):
        text = RULE.replace(b"spiffe://example.org/web", peer)
        with pytest.raises(InvalidPolicyError, match=r"4:12: rules\[0\].allow: .* is outside .*: example.com"):
            parse_policy(text, "yaml", trust_domains=domains[:1])


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"), [("a.yaml", "yaml"), ("a.yml", "yaml"), ("A.TOML", "toml"), ("a.b.json", "json")]
)
def test_a_name_says_the_format(name: str, expected: str) -> None:
    assert format_of(name) == expected


@pytest.mark.parametrize("name", ["policy", "policy.txt", "policy.yaml.bak", ".yaml"])
def test_another_name_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(RULE)
    with pytest.raises(ConfigurationError, match=r"ends with \.yaml"):
        load_policy(tmp_path / name)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    with pytest.raises(UnavailableError, match="No such file"):
        load_policy(path)
    path.write_bytes(RULE.replace(b"/*", b"x"))
    with pytest.raises(InvalidPolicyError, match=r"policy.yaml:5:11: rules\[0\].grpc: 'x'") as info:
        load_policy(path)
    assert (info.value.file, info.value.line, info.value.column) == (str(path), 5, 11)
    path.write_bytes(b"x" * (MAX_BYTES + 1))
    with pytest.raises(ConfigurationError, match="larger than 262144 bytes"):
        load_policy(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigurationError, match="is not a file"):
        load_policy(path)


def test_yaml_without_pyyaml_says_what_to_install() -> None:
    code = "import sys; sys.modules['yaml'] = None\nfrom authsec_sdk.policyfile import parse_policy as p\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "p(b'{\"version\": 1, \"rules\": []}', 'json'); p(b'', 'yaml')"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "CallerError: policies in YAML need PyYAML: install authsec-sdk[cli]" in done.stderr
