"""Every command against a running server: what it prints, where, and how it exits."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography import x509

from authsec_sdk.proto.spire import agent_grpc, agent_pb2
from authsec_sdk.spiffe import TrustDomain, parse_bundle_document
from icp_server.cli import main

pytestmark = pytest.mark.anyio


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
def cli(live: Any, capsys: pytest.CaptureFixture[str]) -> CLI:
    """Run a command against the server: `await cli("entry show", "-output", "json")`."""

    async def run(command: str, *flags: str) -> Result:
        arguments = [*command.split(), "-socketPath", str(live.config.listeners.socket_path), *flags]
        code = await anyio.to_thread.run_sync(main, arguments)
        return Result(code, *capsys.readouterr())

    return run


WEB = ("-spiffeID", "spiffe://example.org/web", "-parentID", "spiffe://example.org/node", "-selector", "unix:uid:1")


async def test_health(cli: CLI) -> None:
    assert await cli("healthcheck") == Result(0, "Server is healthy.\n", "")
    verbose = await cli("healthcheck", "-verbose", "-shallow")
    assert verbose.out == "Checking server health...\nServer is healthy.\n"


async def test_a_server_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "none.sock")
    assert await anyio.to_thread.run_sync(main, ["healthcheck", "-socketPath", missing, "-verbose"]) == 1
    out, err = capsys.readouterr()
    assert out == "Checking server health...\n"
    assert err.startswith("Failed to check health: rpc error: code = Unavailable desc = ")
    assert err.endswith("Error: server is unhealthy: unable to determine health\n")
    assert await anyio.to_thread.run_sync(main, ["entry", "show", "-socketPath", missing]) == 1
    assert capsys.readouterr().err.startswith("Error: error fetching entries: rpc error: code = Unavailable desc = ")


async def test_tokens(cli: CLI) -> None:
    plain = await cli("token generate")
    assert plain.code == 0
    token, warning = plain.out.splitlines()
    assert token.startswith("Token: ")
    assert warning == "Warning: Missing SPIFFE ID."
    named = await cli("token generate", "--spiffeID=spiffe://example.org/node", "-ttl", "60", "-output", "json")
    assert set(named.json) == {"value", "expires_at"}
    for flags, words in (
        (("-ttl", "0"), "code = InvalidArgument desc = ttl is required, you must provide one"),
        (("-ttl", "3000000000"), "invalid value for TTL"),
        (("-spiffeID", "spiffe://example.org/spire/x"), "code = InvalidArgument desc = invalid agent ID: "),
        (("-spiffeID", "node"), "spiffe://"),
    ):
        refused = await cli("token generate", *flags)
        assert (refused.code, refused.out) == (1, "")
        assert refused.err.startswith("Error: ")
        assert words in refused.err


async def test_an_entry_that_any_process_can_borrow_is_warned_of_on_stderr(cli: CLI) -> None:
    """Threat 1."""
    weak = ("-spiffeID", "spiffe://example.org/web", "-parentID", "spiffe://example.org/node", "-selector")
    created = await cli("entry create", *weak, "unix:path:/usr/bin/web", "-entryID", "e1")
    assert created.code == 0
    assert created.err.startswith("Warning: entry e1: unix:path and unix:sha256 alone can be borrowed")
    updated = await cli("entry update", *weak, "unix:sha256:00", "-entryID", "e1", "-output", "json")
    assert updated.json["results"][0]["status"]["code"] == 0
    assert updated.err.startswith("Warning: entry e1: ")
    assert (await cli("entry update", *weak, "unix:uid:1", "-entryID", "e1")).err == ""


async def test_an_entrys_life(cli: CLI) -> None:
    created = await cli("entry create", *WEB, "-entryID", "e1", "-dns", "b.x", "-dns", "a.x", "-x509SVIDTTL", "60")
    assert created.code == 0
    assert created.out.startswith("Entry ID                : e1\n")
    assert "DNS name                : a.x\nDNS name                : b.x\n" in created.out

    shown = await cli("entry show", "-entryID", "e1")
    assert shown.out.startswith("Found 1 entry\nEntry ID                : e1\n")
    assert "DNS name                : b.x\nDNS name                : a.x\n" in shown.out

    again = await cli("entry create", *WEB)
    assert (again.code, again.out) == (1, "")
    first, second, *_, last = again.err.splitlines()
    assert first == ('Failed to create the following entry (code: AlreadyExists, msg: "similar entry already exists"):')
    assert second == "Entry ID                : (none)"
    assert last == "Error: failed to create one or more entries"
    as_json = await cli("entry create", *WEB, "-output", "json")
    assert as_json.code == 0  # as upstream: the answer itself says what failed
    assert as_json.json["results"][0]["status"] == {"code": 6, "message": "similar entry already exists"}

    updated = await cli("entry update", *WEB, "-entryID", "e1", "-hint", "h", "-jwtSVIDIncludeJTI")
    assert "Revision                : 1\n" in updated.out
    assert "X509-SVID TTL           : default\n" in updated.out  # what is not given is reset
    kept = await cli("entry update", *WEB, "-entryID", "e1", "-disableX509SVIDPrefetch", "-output", "json")
    assert kept.json["results"][0]["entry"]["additional_attributes"] == {
        "disable_x509_svid_prefetch": True,
        "jwt_svid_include_jti": True,
    }
    assert (await cli("entry count")).out == "1 registration entry\n"

    gone = await cli("entry delete", "-entryID", "e1")
    assert (gone.code, gone.out) == (0, "Deleted entry with ID: e1\n\n\nDeleted 1 entries successfully\n")
    assert (await cli("entry show")).out == "Found 0 entries\n"
    assert (await cli("entry count", "-output", "json")).out == '{"count":0}\n'


@pytest.mark.parametrize(
    ("command", "flags", "words"),
    [
        ("entry create", (), "at least one selector is required"),
        ("entry create", ("-selector", "unix:uid:1"), "a parent ID is required if the node flag is not set"),
        ("entry create", ("-selector", "unix:uid:1", "-node"), "a SPIFFE ID is required"),
        ("entry create", (*WEB, "-node", "-federatesWith", "x.org"), "node entries can not federate"),
        ("entry create", (*WEB, "-x509SVIDTTL", "-1"), "a positive x509-SVID TTL is required"),
        ("entry create", (*WEB, "-jwtSVIDTTL", "-1"), "a positive JWT-SVID TTL is required"),
        ("entry create", (*WEB, "-jwtSVIDTTL", "9999999999"), "invalid value for JWT SVID TTL"),
        ("entry create", (*WEB, "-selector", "unix"), 'selector "unix" must be formatted as type:value'),
        ("entry create", ("-data", "/no/such/file"), "No such file"),
        ("entry update", WEB, "entry ID is required"),
        ("entry update", (*WEB, "-entryID", "nope"), 'code: NotFound, msg: "failed to update entry"'),
        (
            "entry update",
            (*WEB, "-entryID", "nope", "-jwtSVIDIncludeJTI"),
            "failed to fetch existing entry to merge additional attributes: rpc error: code = NotFound",
        ),
        ("entry delete", (), "an entry ID is required"),
        ("entry delete", ("-entryID", "nope"), 'ID nope (code: NotFound, msg: "entry not found")'),
        ("entry show", ("-entryID", "nope"), "error fetching entry ID nope: rpc error: code = NotFound desc = entry"),
        ("entry show", ("-entryID", "x", "-hint", "y", "-selector", "a:b"), "can't be combined with others"),
        ("entry count", ("-selector", "a:b", "-matchSelectorsOn", "foo"), 'match behavior "foo" unknown'),
        ("entry count", ("-federatesWith", "x.org", "-matchFederatesWithOn", "foo"), 'match behavior "foo" unknown'),
        ("entry count", ("-parentID", "nope"), "spiffe://"),
        ("agent show", (), "a SPIFFE ID is required"),
        ("agent ban", (), "a SPIFFE ID is required"),
        ("agent evict", (), "a SPIFFE ID is required"),
        ("agent ban", ("-spiffeID", "spiffe://example.org/spire/agent/x"), "code = NotFound desc = agent not found"),
        ("agent show", ("-spiffeID", "spiffe://example.org/x"), "path is not in the agent namespace"),
        ("agent list", ("-expiresBefore", "junk"), "date is not valid"),
        ("agent list", ("-expiresBefore", "2006-01-02 15:04:05 -0700 junk"), "date is not valid"),
        ("agent count", ("-selector", "a:b", "-matchSelectorsOn", "foo"), 'match behavior "foo" unknown'),
        ("bundle show", ("-format", "der"), 'invalid format: "der"'),
    ],
)
async def test_what_cannot_be_done_is_an_error_on_stderr(
    cli: CLI, command: str, flags: tuple[str, ...], words: str
) -> None:
    result = await cli(command, *flags)
    assert result.code == 1
    assert words in result.err
    assert result.err.splitlines()[-1].startswith("Error: ")


async def test_node_entries_have_the_server_as_their_parent(cli: CLI) -> None:
    result = await cli(
        "entry create", "-node", "-spiffeID", "spiffe://example.org/rack", "-selector", "x:y", "-output", "json"
    )
    entry = result.json["results"][0]["entry"]
    assert entry["parent_id"] == {"trust_domain": "example.org", "path": "/spire/server"}


async def test_an_agent_cannot_write_on_the_operators_terminal(cli: CLI, live: Any) -> None:
    node = await live.caller(await live.attest())
    await agent_grpc.AgentStub(node).PostStatus(
        agent_pb2.PostStatusRequest(agent_version="1\x1b[2J\nBanned            : true\u202e\u009b")
    )
    for command in ("agent list", "agent show -spiffeID " + await _only_agent(cli)):
        shown = (await cli(command)).out
        assert "Agent version     : 1\\x1b[2J\\nBanned            : true\\u202e\\u009b\n" in shown
        assert "\x1b" not in shown
    hinted = await cli("entry create", *WEB, "-hint", "a\nAdmin                   : true")
    assert "Hint                    : a\\nAdmin " in hinted.out


async def _only_agent(cli: CLI) -> str:
    (agent,) = (await cli("agent list", "-output", "json")).json["agents"]
    return f"spiffe://{agent['id']['trust_domain']}{agent['id']['path']}"


async def test_entries_by_a_file(cli: CLI, tmp_path: Path) -> None:
    entries = [
        {
            "entry_id": f"f{number}",
            "SPIFFE_ID": f"spiffe://example.org/f{number}",  # in any case, as Go reads JSON
            "parent_id": "spiffe://example.org/node",
            "selectors": [{"type": "unix", "value": f"user:{'x' * 10_000}"}] if number != 3 else [],
            "hint": "old",
            "entryExpiry": 2000000000,
            "additional_attributes": {"jwt_svid_include_jti": True},
        }
        for number in range(150)  # more than one request holds
    ]
    file = tmp_path / "entries.json"
    file.write_text(json.dumps({"entries": entries}))
    created = await cli("entry create", "-data", str(file))
    assert created.code == 1
    assert created.err.startswith(
        'Failed to create the following entry (code: InvalidArgument, msg: "failed to convert entry: selector list is'
    )
    assert created.out.count("Entry ID") == 149
    assert created.out.count("JwtSvidIncludeJti       : true") == 149
    assert (await cli("entry show", "-output", "json")).json["next_page_token"] == ""

    entries[0]["hint"] = "new"
    file.write_text(json.dumps({"entries": entries[:1]}))
    assert "Hint                    : new" in (await cli("entry update", "-data", str(file))).out

    file.write_text(json.dumps({"ids": ["f0", "nope"]}))
    deleted = await cli("entry delete", "-file", str(file))
    assert deleted.code == 1
    assert "Deleted 1 entries successfully, but failed to delete 1 entries" in deleted.out


async def test_a_file_of_entries_too_large_is_not_read(cli: CLI, tmp_path: Path) -> None:
    file = tmp_path / "entries.json"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    result = await cli("entry create", "-data", str(file))
    assert (result.code, result.out) == (1, "")
    assert "is larger than" in result.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "must be an object, not a list"),
        ('{"entires": []}', "unknown key 'entires'; did you mean 'entries'?"),
        ('{"entries": {}}', "'entries' cannot be an object"),
        ('{"entries": [1]}', "entry 1: must be an object, not a number"),
        ('{"entries": [{"federate_with": ["x"]}]}', "entry 1: unknown key 'federate_with'; did you mean"),
        ('{"entries": [{"admin": "yes"}]}', "entry 1: 'admin' cannot be a string"),
        ('{"entries": [{"x509_svid_ttl": true}]}', "'x509_svid_ttl' cannot be a boolean"),
        ('{"entries": [{"selectors": [{"typ": "x"}]}]}', "did you mean 'type'?"),
        ('{"entries": [{"spiffe_id": "web"}]}', "entry 1: "),
        ('{"entries": [{"additional_attributes": {"x": 1}}]}', "additional_attributes: unknown key 'x'"),
        (
            '{"entries": [{"spiffe_id": "spiffe://a/b", "parent_id": "spiffe://a/c", "x509_svid_ttl": 9999999999}]}',
            "does not fit into 32 bits",
        ),
        (
            '{"entries": [{"spiffe_id": "spiffe://a/b", "parent_id": "spiffe://a/c", "entryExpiry": 1e30}]}',
            "'entryExpiry' cannot be a number",
        ),
        (
            '{"entries": [{"spiffe_id": "spiffe://a/b", "parent_id": "spiffe://a/c", "hint": "\\ud800"}]}',
            "entry 1: ",
        ),
        ('{"entries": [{"selectors": [{"type": "unix", "value": "\\ud800"}]}]}', "surrogates not allowed"),
        ("[" * 100_000, "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
    ],
)
async def test_a_bad_file_of_entries_says_where(cli: CLI, tmp_path: Path, text: str | bytes, words: str) -> None:
    file = tmp_path / "entries.json"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    result = await cli("entry create", "-data", str(file))
    assert (result.code, result.out) == (1, "")
    assert words in result.err


async def test_entries_are_found(cli: CLI) -> None:
    await cli("entry create", *WEB, "-hint", "h", "-downstream")
    await cli("entry create", *WEB[:4], "-selector", "unix:uid:1", "-selector", "unix:gid:1")
    for flags, count in (
        ((), 2),
        (("-hint", "h"), 1),
        (("-downstream",), 1),
        (("-downstream=false",), 2),
        (("-selector", "unix:uid:1"), 2),
        (("-selector", "unix:uid:1", "-matchSelectorsOn", "exact"), 1),
        (("-selector", "unix:gid:1", "-matchSelectorsOn", "subset"), 0),
        (("-selector", "unix:gid:1", "-selector", "unix:x:1", "-matchSelectorsOn", "any"), 1),
        (("-spiffeID", "spiffe://example.org/web"), 2),
        (("-parentID", "spiffe://example.org/other"), 0),
        (("-federatesWith", "other.org"), 0),
    ):
        assert (await cli("entry count", *flags, "-output", "json")).json == {"count": count}, flags
        assert len((await cli("entry show", *flags, "-output", "json")).json["entries"]) == count, flags


async def test_agents(cli: CLI, live: Any) -> None:
    assert (await cli("agent list")).out == "No attested agents found\n"
    svid = await live.attest()
    listed = await cli("agent list")
    assert listed.out.startswith(f"Found 1 attested agent:\n\nSPIFFE ID         : {svid.id}\n")
    assert (await cli("agent list", "-output", "json")).json["agents"][0]["x509svid_serial_number"] == str(
        svid.leaf.serial_number
    )
    shown = await cli("agent show", "-spiffeID", str(svid.id))
    assert shown.out.startswith("Found an attested agent given its SPIFFE ID\n\nSPIFFE ID         : ")
    assert (await cli("agent ban", "-spiffeID", str(svid.id))).out == "Agent banned successfully\n"
    assert (await cli("agent count", "-banned", "true")).out == "1 attested agent\n"
    assert (await cli("agent count", "-banned", "false", "-canReattest", "true")).out == "0 attested agents\n"
    assert (await cli("agent count", "-attestationType", "x509pop")).out == "0 attested agents\n"
    assert (await cli("agent count", "-expiresBefore", "2999-01-02 15:04:05 -0700 -07")).out == "1 attested agent\n"
    assert (await cli("agent evict", "-spiffeID", str(svid.id), "-output", "json")).out == "{}\n"
    assert (await cli("agent count", "-output", "json")).json == {"count": 0}


async def test_the_bundle(cli: CLI, live: Any) -> None:
    (authority,) = (await live.bundle()).authorities
    pem = await cli("bundle show")
    assert x509.load_pem_x509_certificates(pem.out.encode()) == [authority]
    document = await cli("bundle show", "-format", "SPIFFE")
    assert document.out.startswith('{\n    "keys": [\n')
    bundle = parse_bundle_document(TrustDomain("example.org"), document.out.encode())
    assert bundle.x509_authorities == (authority,)
    assert (await cli("bundle show", "-output", "json")).json["trust_domain"] == "example.org"
