"""The commands that mint and that move authorities, against a running server: what they print, write, and refuse."""

import base64
import json
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

from authsec_sdk.spiffe import JWTSVID, WITSVID, X509SVID
from icp_server.cli import main
from icp_server.cli.program import program
from icp_server.config.model import Tokens

pytestmark = pytest.mark.anyio
WEB = ("-spiffeID", "spiffe://example.org/web")


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.out.count("\n") == 1
        return json.loads(self.out)


CLI = Callable[..., Awaitable[Result]]


@pytest.fixture
async def cli(start_server: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CLI:
    monkeypatch.setenv("SPIRE_SERVER_FFLAGS", "wit-svid")
    live = await start_server(tokens=Tokens(wit=True))

    async def run(command: str, *flags: str) -> Result:
        arguments = [*command.split(), "-socketPath", str(live.config.listeners.socket_path), *flags]
        code = await anyio.to_thread.run_sync(main, arguments)
        return Result(code, *capsys.readouterr())

    return run


async def test_jwt_svids(cli: CLI, tmp_path: Path) -> None:
    plain = await cli("jwt mint", *WEB, "-audience", "a", "-audience", "b")
    assert JWTSVID.unsafe_parse(plain.out.strip()).audience == ("a", "b")
    assert (plain.code, plain.err) == (0, "")
    told = (await cli("jwt mint", *WEB, "-audience", "a", "-ttl", "90s", "-output", "json")).json["svid"]
    assert int(told["expires_at"]) - int(told["issued_at"]) == 90
    assert set(told) == {"token", "id", "expires_at", "issued_at", "hint"}
    written = await cli("jwt mint", *WEB, "-audience", "a", "-write", str(tmp_path / "token"))
    assert written == Result(0, f"JWT-SVID written to {tmp_path / 'token'}\n", "")
    assert JWTSVID.unsafe_parse((tmp_path / "token").read_text())
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["jwt", "x509", "wit"])
async def test_what_is_capped_is_said(cli: CLI, kind: str) -> None:
    audience = ("-audience", "a") if kind == "jwt" else ()
    capped = await cli(f"{kind} mint", *WEB, *audience, "-ttl", "100h")
    assert capped.code == 0
    name = {"jwt": "JWT", "x509": "X509", "wit": "WIT"}[kind]
    assert capped.err.startswith(f'{name}-SVID lifetime was capped shorter than specified ttl; expires "')
    for ttl in ("10s", "100ms", "-5s"):  # a negative one is the default
        assert (await cli(f"{kind} mint", *WEB, *audience, "-ttl", ttl)).err == ""


@pytest.mark.parametrize(
    ("command", "flags", "words"),
    [
        ("jwt mint", (), "spiffeID must be specified"),
        ("jwt mint", WEB, "at least one audience must be specified"),
        ("jwt mint", ("-spiffeID", "nope", "-audience", "a"), "spiffe://"),
        (
            "jwt mint",
            ("-spiffeID", "spiffe://other.org/web", "-audience", "a"),
            "unable to mint SVID: rpc error: code = InvalidArgument desc = invalid SPIFFE ID: ",
        ),
        ("jwt mint", (*WEB, "-audience", "a", "-ttl", "1000000h"), "invalid value for TTL"),
        ("jwt mint", (*WEB, "-audience", "a", "-write", "/nowhere/x"), "unable to write token: open /nowhere/x: "),
        ("x509 mint", (), "spiffeID must be specified"),
        (
            "x509 mint",
            ("-spiffeID", "spiffe://other.org/web"),
            "unable to mint SVID: rpc error: code = InvalidArgument desc = CSR URI SAN is invalid: ",
        ),
        ("x509 mint", (*WEB, "-dns", "a..b"), "code = InvalidArgument desc = CSR DNS name is invalid: "),
        ("x509 mint", (*WEB, "-write", "/nowhere"), "unable to write SVID: open /nowhere/svid.pem: "),
        ("wit mint", (), "spiffeID must be specified"),
        ("wit mint", (*WEB, "-keyType", "rsa-2048"), "unsupported key type 'rsa-2048' for 'ES256' signing algorithm"),
        ("wit mint", (*WEB, "-keyType", "nope"), "unsupported key type 'nope' for 'ES256' signing algorithm"),
        ("localauthority jwt activate", (), "an authority ID is required"),
        (
            "localauthority x509 taint",
            ("-authorityID", "nope"),
            "could not taint X.509 authority: rpc error: code = InvalidArgument desc = unexpected authority ID",
        ),
        ("upstreamauthority taint", (), "the Subject Key ID of the X.509 upstream authority is required"),
        (
            "upstreamauthority revoke",
            ("-subjectKeyID", "x"),
            "code = FailedPrecondition desc = upstream authority is not configured",
        ),
    ],
)
async def test_what_is_refused(cli: CLI, command: str, flags: tuple[str, ...], words: str) -> None:
    refused = await cli(command, *flags)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("Error: ")
    assert words in refused.err


async def test_x509_svids(cli: CLI, tmp_path: Path) -> None:
    told = (await cli("x509 mint", *WEB, "-dns", "a.b", "-dns", "c.d", "-output", "json")).json
    assert list(told) == ["x509_svid", "private_key", "root_cas"]
    chain = [x509.load_der_x509_certificate(base64.b64decode(each)) for each in told["x509_svid"]]
    key = load_der_private_key(base64.b64decode(told["private_key"]), None)
    svid = X509SVID(tuple(chain), key)  # type: ignore[arg-type]
    assert str(svid.id) == "spiffe://example.org/web"
    names = svid.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.b", "c.d"]
    assert len(told["root_cas"]) == 1
    plain = await cli("x509 mint", *WEB)
    assert [line for line in plain.out.splitlines() if line.endswith(":")] == [
        "X509-SVID:",
        "Private key:",
        "Root CAs:",
    ]
    written = await cli("x509 mint", *WEB, "-write", str(tmp_path))
    assert [line.partition(" written to ")[0] for line in written.out.splitlines()] == [
        "X509-SVID",
        "Private key",
        "Root CAs",
    ]
    load_pem_private_key((tmp_path / "key.pem").read_bytes(), None)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("*.pem")}
    assert modes == {"svid.pem": 0o644, "key.pem": 0o600, "bundle.pem": 0o644}


@pytest.mark.parametrize(("key_type", "algorithm"), [("ec-p256", "ES256"), ("ec-p384", "ES384"), ("rsa-2048", "PS256")])
async def test_wit_svids(cli: CLI, tmp_path: Path, key_type: str, algorithm: str) -> None:
    flags = (*WEB, "-keyType", key_type, "-signingAlgorithm", algorithm)
    token, key = (await cli("wit mint", *flags)).out.splitlines()
    assert set(json.loads(key)) >= {"kty", "d"}
    told = (await cli("wit mint", *flags, "-output", "json")).json
    assert list(told) == ["private_key", "svid"]
    written = await cli("wit mint", *flags, "-write", str(tmp_path))
    assert written.out == f"WIT-SVID written to {tmp_path / 'token'}\nPrivate key written to {tmp_path / 'key'}\n"
    for name in ("token", "key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    jwk = json.loads((tmp_path / "key").read_text()) | {"alg": algorithm}
    assert WITSVID.parse((tmp_path / "token").read_text(), json.dumps(jwk)).algorithm == algorithm
    assert token.count(".") == 2


def test_wit_mint_is_there_where_the_flag_is() -> None:
    assert program({}).main(["wit", "mint", "-h"]) == 127
    assert program({"SPIRE_SERVER_FFLAGS": "wit-svid"}).main(["wit", "mint", "-h"]) == 0


@pytest.mark.parametrize(("kind", "words"), [("jwt", "JWT"), ("x509", "X.509")])
async def test_authorities_are_moved_by_hand(cli: CLI, kind: str, words: str) -> None:
    def blocks(text: str) -> dict[str, list[str]]:
        return {block.splitlines()[0]: block.splitlines()[1:] for block in text.split("\n\n")}

    shown = blocks((await cli(f"localauthority {kind} show")).out)
    assert list(shown) == [f"{status} {words} authority:" for status in ("Active", "Prepared", "Old")]
    assert shown[f"Old {words} authority:"] == [f"  No old {words} authority found"]
    assert len(shown[f"Active {words} authority:"]) == (3 if kind == "x509" else 2)
    active = (await cli(f"localauthority {kind} show", "-output", "json")).json["active"]["authority_id"]
    prepared = (await cli(f"localauthority {kind} prepare", "-output", "json")).json["prepared_authority"]
    activated = await cli(f"localauthority {kind} activate", "-authorityID", prepared["authority_id"])
    assert activated.out.startswith(f"Activated {words} authority:\n  Authority ID: {prepared['authority_id']}\n")
    tainted = await cli(f"localauthority {kind} taint", "-authorityID", active)
    assert tainted.out.startswith(f"Tainted {words} authority:\n  Authority ID: {active}\n  Expires at: ")
    revoked = await cli(f"localauthority {kind} revoke", "-authorityID", active)
    assert "  Expires at: 1970-01-01 00:00:00 +0000 UTC" in revoked.out.splitlines()
    again = (await cli(f"localauthority {kind} prepare")).out
    assert again.startswith(f"Prepared {words} authority:\n  Authority ID: ")
