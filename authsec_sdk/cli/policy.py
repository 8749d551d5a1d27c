"""``authsec policy``: is a policy document right, and what does it say of one peer and one request?"""

import argparse
import sys
from pathlib import Path
from typing import Any

from authsec_sdk.authz import Policy, Request
from authsec_sdk.authz.rules import Rule
from authsec_sdk.cli.output import Facts, add_output, printable, show
from authsec_sdk.cli.parsing import add_command
from authsec_sdk.errors import ConfigurationError, SpiffeError, UnavailableError
from authsec_sdk.policyfile import InvalidPolicyError, load_policy
from authsec_sdk.spiffe import SpiffeID, TrustDomain

_EXAMPLES = (
    ("authsec policy check policy.yaml", "every error with its line and key"),
    ("authsec policy check --trust-domain example.org *.toml --output json", ""),
    ("authsec policy explain policy.yaml --peer spiffe://example.org/web --path /orders/1", "GET, unless --method"),
    ("authsec policy explain policy.yaml --peer spiffe://example.org/web --grpc /shop.Orders/List", ""),
    ("authsec policy explain policy.yaml --peer spiffe://example.org/web --database orders --role reader", ""),
)


def register(commands: Any) -> None:
    """Add this command and its own to the parser."""
    parser = add_command(
        commands,
        "policy",
        summary="check policy documents, explain decisions",
        description=f"{__doc__}\n\nexit codes: 0 right, or allowed; 1 wrong, or refused; 2 wrong use",
        examples=_EXAMPLES,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    check = actions.add_parser("check", help="read documents as a server would, and say what is wrong")
    check.add_argument("files", nargs="+", type=Path, metavar="FILE", help="ending with .yaml, .yml, .toml or .json")
    _add_trust_domains(check)
    add_output(check)
    check.set_defaults(run=run_check)

    explain = actions.add_parser("explain", help="say what a document makes of one request, rule by rule")
    explain.add_argument("file", type=Path, metavar="FILE")
    explain.add_argument("--peer", required=True, metavar="ID", help="the caller's SPIFFE ID")
    explain.add_argument("--method", metavar="METHOD", help="an HTTP method (default GET), with --path")
    what = explain.add_mutually_exclusive_group(required=True)
    what.add_argument("--path", metavar="PATH", help="an HTTP path, percent-decoded")
    what.add_argument("--grpc", metavar="METHOD", help="a gRPC method: /package.Service/Method")
    what.add_argument("--database", metavar="NAME", help="a database, with --role")
    explain.add_argument("--role", metavar="ROLE", help="a role in the database")
    _add_trust_domains(explain)
    add_output(explain)
    explain.set_defaults(run=lambda options: run_explain(options, explain))


def _add_trust_domains(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust-domain", action="append", metavar="NAME", help="rules may name no others; may be repeated"
    )


def run_check(options: argparse.Namespace) -> int:
    """Read every file; 0 if all are policies."""
    domains = _domains(options)
    found = [_checked(path, domains) for path in options.files]
    if options.output == "json":
        show({"files": found}, output="json")
    else:
        for each in found:
            _print(each)
    return 0 if all(each["valid"] for each in found) else 1


def run_explain(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Say what the document makes of one request; 0 if it is allowed."""
    request = _request(options, parser)
    peer = SpiffeID.parse(options.peer)
    try:
        policy = load_policy(options.file, trust_domains=_domains(options))
    except UnavailableError as error:  # a file that is not there is wrong, and nothing to wait for
        raise ConfigurationError(str(error)) from None
    decision = policy.decide(peer, request)
    show(
        {
            "peer": str(peer),
            "request": str(request),
            "decision": "allowed" if decision.allowed else "refused",
            "because": decision.reason,
            **({"remedy": decision.remedy} if decision.remedy else {}),
            "may_connect": _may_connect(policy, peer),
            "rules": [
                {
                    **_rule_facts(finding.rule),
                    "names_the_peer": finding.names_peer,
                    "covers_the_request": finding.covers_request,
                    "matches": finding.matches,
                }
                for finding in policy.explain(peer, request)
            ],
        },
        output=options.output,
    )
    return 0 if decision.allowed else 1


def _checked(path: Path, domains: frozenset[TrustDomain] | None) -> Facts:
    try:
        policy = load_policy(path, trust_domains=domains)
    except InvalidPolicyError as error:
        problems = [
            {
                "line": None if each.place is None else each.place.line,
                "column": None if each.place is None else each.place.column,
                "key": each.key,
                "message": each.message,
            }
            for each in error.problems
        ]
        return {"file": str(path), "valid": False, "problems": problems}
    except SpiffeError as error:
        message = error.message if isinstance(error, ConfigurationError) else str(error)
        problem = {"line": None, "column": None, "key": "", "message": message}
        return {"file": str(path), "valid": False, "problems": [problem]}
    effects = [rule.effect for rule in policy.rules]
    counts = {"rules": len(effects), "allow": effects.count("allow"), "deny": effects.count("deny")}
    return {"file": str(path), "valid": True, **counts, "warnings": _warnings(policy)}


def _warnings(policy: Policy) -> list[str]:
    allowing = [rule for rule in policy.rules if rule.effect == "allow"]
    if not allowing:
        return ["no rule allows anything: everybody is refused"]
    return [
        f"rule {rule.name!r} (line {_line(rule)}) allows everything to a whole trust domain"
        for rule in allowing
        if rule.scopes is None and any(isinstance(peer, TrustDomain) for peer in rule.peers)
    ]


def _print(facts: Facts) -> None:
    file = facts["file"]
    problems, warnings = facts.get("problems", []), facts.get("warnings", [])
    assert isinstance(problems, list)
    assert isinstance(warnings, list)
    for each in problems:
        place = ":".join(str(part) for part in (file, each["line"], each["column"]) if part is not None)
        _say(f"{place}: {each['key']}: {each['message']}" if each["key"] else f"{place}: {each['message']}")
    if facts["valid"]:
        _say(f"{file}: good, with {facts['rules']} rules ({facts['allow']} allow, {facts['deny']} deny)")
    for text in warnings:
        _say(f"{file}: warning: {text}")


def _say(text: str) -> None:
    sys.stdout.write(printable(text) + "\n")


def _request(options: argparse.Namespace, parser: argparse.ArgumentParser) -> Request:
    if options.method is not None and options.path is None:
        parser.error("--method goes with --path")
    if (options.role is None) != (options.database is None):
        parser.error("--database and --role go together")
    if options.path is not None:
        return Request.http(options.method or "GET", options.path)
    if options.grpc is not None:
        return Request.grpc(options.grpc)
    return Request.database(options.database, options.role)


def _may_connect(policy: Policy, peer: SpiffeID) -> bool:
    try:
        policy.may_connect(peer)
    except SpiffeError:
        return False
    return True


def _rule_facts(rule: Rule) -> Facts:
    return {"name": rule.name, "line": _line(rule), "says": str(rule)}


def _line(rule: Rule) -> int | None:
    return None if rule.place is None else rule.place.line


def _domains(options: argparse.Namespace) -> frozenset[TrustDomain] | None:
    names = options.trust_domain
    return None if names is None else frozenset(TrustDomain.parse(name) for name in names)
