"""``authsec`` as a person or a script runs it: what it prints, and its exit codes."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from authsec_sdk.cli import build_parser, main
from authsec_sdk.cli.completion import verbs
from authsec_sdk.testing import FakeWorkloadAPI, TestCA


def pem(path: Path, *certificates: Any) -> str:
    path.write_bytes(b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates))
    return str(path)


@pytest.mark.parametrize("command", [list(verb.words) for verb in verbs(build_parser())], ids=" ".join)
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        main([*command, "--help"])
    assert info.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(" ".join(["usage: authsec", *command]))
    assert len(command) == 2 or "examples:" in said


def test_module_and_examples() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "authsec_sdk.cli", "--help"], capture_output=True, text=True, check=True
    )
    assert "examples:" in done.stdout
    assert "exit codes:" in done.stdout


def test_inspect_accepts_a_good_chain(ca: TestCA, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chain = pem(tmp_path / "chain.pem", *ca.svid("/payments").certificates)
    bundle = pem(tmp_path / "bundle.pem", ca.certificate)
    assert main(["inspect", chain, "--bundle", bundle, "--output", "json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["spiffe_id"] == "spiffe://example.org/payments"
    assert facts["verdict"].startswith("valid, and leads to the bundle")


@pytest.mark.parametrize("wrong", [{"ca": True}, {"uris": []}, {"uris": ["spiffe://example.org/a", "https://b"]}])
def test_inspect_refuses_a_wrong_leaf(
    ca: TestCA, tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: dict[str, Any]
) -> None:
    chain = pem(tmp_path / "chain.pem", *ca.credential("/a", **wrong).certificates)
    assert main(["inspect", chain]) == 1
    assert "REFUSED" in capsys.readouterr().out


def test_inspect_refuses_another_authority(ca: TestCA, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chain = pem(tmp_path / "chain.pem", *ca.svid("/a").certificates)
    bundle = pem(tmp_path / "bundle.pem", TestCA("example.org").certificate)
    assert main(["inspect", chain, "--bundle", bundle]) == 1
    assert "REFUSED" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_inspect_says_what_is_no_certificate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "chain.pem").write_bytes(content)
    assert main(["inspect", str(tmp_path / "chain.pem")]) == 1
    assert "chain.pem" in capsys.readouterr().err


def test_inspect_prints_the_names_of_strangers_harmlessly(
    ca: TestCA, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x\nverdict: valid \x1b[2J")])
    credential = ca.intermediate(subject=evil).credential("/a", subject=evil)
    assert main(["inspect", pem(tmp_path / "chain.pem", *credential.certificates)]) == 0
    lines = capsys.readouterr().out.split("\n")
    assert all(line.isprintable() for line in lines)
    assert [line.startswith("verdict: a valid SVID by itself") for line in lines if line.startswith("verdict")] == [
        True
    ]


def test_fetch_without_an_address_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch"]) == 1
    assert "SPIFFE_ENDPOINT_SOCKET" in capsys.readouterr().err


def test_fetch_without_an_agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "--socket", f"unix://{tmp_path}/none.sock"]) == 3
    assert "none.sock" in capsys.readouterr().err


def test_doctor_names_the_first_thing_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--socket", f"unix://{tmp_path}/none.sock", "--output", "json"]) == 1
    checks = json.loads(capsys.readouterr().out)["checks"]
    [failed] = [check for check in checks if check["result"] == "FAILED"]
    assert failed["check"] == "socket"
    assert "is the agent running" in failed["detail"]
    assert "start the agent" in failed["remedy"]
    assert {check["result"] for check in checks[checks.index(failed) + 1 :]} == {"skipped"}


def test_fetch_shows_the_identity_and_never_its_key(agent: FakeWorkloadAPI, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "--socket", agent.address, "--output", "json"]) == 0
    text = capsys.readouterr().out
    facts = json.loads(text)
    assert [svid["spiffe_id"] for svid in facts["svids"]] == ["spiffe://example.org/payments"]
    assert facts["trusted_authorities"] == {"example.org": 1}
    assert "PRIVATE" not in text
    assert main(["fetch", "--socket", agent.address]) == 0
    assert "spiffe id: spiffe://example.org/payments" in capsys.readouterr().out


def test_fetch_without_an_entry(agent: FakeWorkloadAPI, capsys: pytest.CaptureFixture[str]) -> None:
    agent.deny()
    assert main(["fetch", "--socket", agent.address]) == 1
    assert "no identity issued" in capsys.readouterr().err


def test_watch_prints_a_line_at_each_rotation(agent: FakeWorkloadAPI) -> None:
    command = [sys.executable, "-m", "authsec_sdk.cli", "watch", "--socket", agent.address, "--count", "2"]
    with subprocess.Popen([*command, "--output", "json"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        agent.rotate()
        second = json.loads(process.stdout.readline())
        assert process.wait(30) == 0
    assert first["svids"][0]["serial_number"] != second["svids"][0]["serial_number"]


def test_doctor_finds_nothing_wrong(agent: FakeWorkloadAPI, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--socket", agent.address, "--output", "json"]) == 0
    assert {check["result"] for check in json.loads(capsys.readouterr().out)["checks"]} == {"ok"}


def test_doctor_sees_an_expired_identity(
    agent: FakeWorkloadAPI, ca: TestCA, capsys: pytest.CaptureFixture[str]
) -> None:
    past = datetime.now(UTC) - timedelta(minutes=1)
    agent.set(ca.svid("/late", not_before=past - timedelta(hours=1), not_after=past), bundles=[ca.bundle()])
    assert main(["doctor", "--socket", agent.address]) == 1
    assert "compare the clocks" in capsys.readouterr().out
