"""The same facts for people and for scripts: text (in colour with rich), or one JSON object."""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authsec_sdk.spiffe import JWTSVID, WITSVID, X509SVID, TrustBundle, X509Context

if TYPE_CHECKING:
    from rich.text import Text

Facts = dict[str, object]

_RESULT_WIDTH: Final = 9
_STYLES: Final = {"ok": "green", "warning": "bold yellow", "FAILED": "bold red", "BROKEN": "bold red", "skipped": "dim"}


def add_output(parser: argparse.ArgumentParser, *, inherited: bool = False) -> None:
    """Add ``--output`` to a command; with `inherited` the one above has it too."""
    default = argparse.SUPPRESS if inherited else "pretty"
    parser.add_argument("--output", choices=("pretty", "json"), default=default, help="for people, or for scripts")


def show(facts: Facts, *, output: str) -> None:
    """Print facts: nested ones as sections, lists of them as numbered ones."""
    if output == "json":
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
        return
    lines = list(_pretty(facts, ""))
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        sys.stdout.write("\n".join(lines) + "\n")
        return
    plain = False if os.environ.get("NO_COLOR") else None  # rich would leave out colours alone, and keep bold
    console = Console(soft_wrap=True, highlight=False, emoji=False, force_terminal=plain)
    for line in lines:
        console.print(_styled(Text, line))


def _styled(text: "type[Text]", line: str) -> "Text":
    first = line.split(maxsplit=1)[0] if line.strip() else ""
    if line.startswith("  ") and first in _STYLES:
        return text.assemble((line[: _RESULT_WIDTH + 2], _STYLES[first]), line[_RESULT_WIDTH + 2 :])
    label, separator, value = line.partition(": ")
    style = "bold red" if value.startswith(("REFUSED", "FAILED")) else ""
    return text.assemble((label + separator, "bold"), (value, style)) if separator else text(line, "bold")


def _pretty(facts: Facts, indent: str) -> list[str]:
    lines = []
    for key, value in facts.items():
        label = f"{indent}{printable(key.replace('_', ' '))}"
        if isinstance(value, dict):
            lines += [label, *_pretty(value, indent + "  ")]
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            if all(str(item.get("result")) in _STYLES for item in value):
                lines += [label, *(line for item in value for line in _judged(item, indent + "  "))]
                continue
            for number, item in enumerate(value, start=1):
                lines += [f"{label} {number}", *_pretty(item, indent + "  ")]
        else:
            text = ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else value
            lines.append(f"{label}: {printable(text)}")
    return lines


def _judged(item: Facts, indent: str) -> list[str]:
    """Return one check or rule as a line: its result, its name, and what there is to say; then what to do."""
    rest = [str(item[key]) for key in ("check", "rule", "detail") if item.get(key)]
    place = ", ".join(f"{key} {item[key]}" for key in ("certificate",) if key in item)
    clause = " ".join(part for part in (place, str(item.get("clause", ""))) if part)
    words = printable(": ".join(rest) + (f" ({clause})" if clause else ""))
    lines = [f"{indent}{item['result']!s:<{_RESULT_WIDTH}}{words}"]
    if item.get("remedy"):
        lines.append(f"{indent}{'':<{_RESULT_WIDTH}}-> {printable(item['remedy'])}")
    return lines


def printable(value: object) -> str:
    """Escape what would move the cursor or begin a line: names in certificates are anybody's words."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(value))


def svid_facts(svid: X509SVID) -> Facts:
    """Return what may be told of an SVID; its key is no part of that."""
    remaining = svid.not_after - datetime.now(UTC)
    return {
        "spiffe_id": str(svid.id),
        "hint": svid.hint,
        "serial_number": str(svid.leaf.serial_number),
        "not_before": svid.not_before.isoformat(),
        "not_after": svid.not_after.isoformat(),
        "expires_in_seconds": round(remaining.total_seconds()),
        "certificates": len(svid.certificates),
        "sha256": svid.leaf.fingerprint(hashes.SHA256()).hex(),
    }


def context_facts(context: X509Context) -> Facts:
    """Return what may be told of a context: its SVIDs, and how many authorities it trusts for which domain."""
    return {
        "svids": [svid_facts(svid) for svid in context.svids],
        "trusted_authorities": {str(domain): len(bundle) for domain, bundle in context.bundles.items()},
    }


def bundle_facts(bundle: TrustBundle) -> Facts:
    """Return what a bundle holds, by number and by name."""
    hint = bundle.refresh_hint
    return {
        "trust_domain": str(bundle.trust_domain),
        "x509_authorities": len(bundle.x509_authorities),
        "jwt_authorities": sorted(bundle.jwt_authorities),
        "wit_authorities": sorted(bundle.wit_authorities),
        "sequence_number": bundle.sequence_number,
        "refresh_hint_seconds": None if hint is None else int(hint.total_seconds()),
    }


def jwt_facts(svid: JWTSVID) -> Facts:
    """Return what may be told of a JWT-SVID; the token is no part of that."""
    return {
        "spiffe_id": str(svid.id),
        "audience": list(svid.audience),
        "hint": svid.hint,
        "key_id": svid.key_id,
        "not_after": svid.expires_at.isoformat(),
        "expires_in_seconds": round((svid.expires_at - datetime.now(UTC)).total_seconds()),
    }


def wit_facts(svid: WITSVID) -> Facts:
    """Return what may be told of a WIT-SVID; neither token nor key is part of that."""
    key = svid.private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        "spiffe_id": str(svid.id),
        "hint": svid.hint,
        "key_id": svid.key_id,
        "algorithm": svid.algorithm,
        "public_key_sha256": hashlib.sha256(key).hexdigest(),
        "not_after": svid.expires_at.isoformat(),
        "expires_in_seconds": round((svid.expires_at - datetime.now(UTC)).total_seconds()),
    }
