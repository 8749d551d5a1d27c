"""``authsec doctor``: each thing mutual TLS needs, from the address to the SVID's life, and who has to do what.

Everything is looked at that can be looked at; what rests on something broken is left out, and said so.
"""

import argparse
from typing import Any

from authsec_sdk.cli.doctor_checks import CHECKS, Finding, Patient
from authsec_sdk.cli.output import Facts, add_output, show
from authsec_sdk.cli.parsing import add_command, add_socket

_EXAMPLES = (
    ("authsec doctor", "what is wrong here, with what to do"),
    ("authsec doctor --output json | jq '.checks[] | select(.result != \"ok\")'", "for scripts; the exit code is 1"),
    ("kubectl exec POD -- python -m authsec_sdk.cli doctor", "as the workload itself sees it"),
)


def register(commands: Any) -> None:
    """Add this command to the parser."""
    parser = add_command(
        commands, "doctor", summary="what is wrong, and who has to act", description=__doc__, examples=_EXAMPLES
    )
    add_socket(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check one thing after the other; 1 if any failed, warnings do not count."""
    patient = Patient(options.socket, options.timeout)
    findings: list[tuple[str, Finding]] = []
    failed: set[str] = set()
    for name, needs, check in CHECKS:
        missing = next((need for need in needs if need in failed), None)
        finding = check(patient) if missing is None else Finding("skipped", f"rests on: {missing}")
        if finding.result in ("FAILED", "skipped"):
            failed.add(name)
        findings.append((name, finding))
    broken = [name for name, finding in findings if finding.result == "FAILED"]
    facts: Facts = {
        "checks": [_facts(name, finding) for name, finding in findings],
        "verdict": f"FAILED: {', '.join(broken)}" if broken else "nothing is wrong",
    }
    show(facts, output=options.output)
    return 1 if broken else 0


def _facts(name: str, finding: Finding) -> Facts:
    facts: Facts = {"check": name, "result": finding.result, "detail": finding.detail}
    if finding.remedy:
        facts["remedy"] = finding.remedy
    return facts
