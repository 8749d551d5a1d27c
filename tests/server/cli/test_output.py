"""Text and JSON as scripts written for SPIRE expect them."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.proto.spire import agent_pb2, entry_pb2, types_pb2
from icp_server.cli.output import JSON, Console, dump_json, local_time, quote, to_json, utc_time
from icp_server.cli.records import agent_lines, entry_lines, sorted_entries

ENTRY = types_pb2.Entry(
    id="e1",
    spiffe_id=types_pb2.SPIFFEID(trust_domain="example.org", path="/a"),
    parent_id=types_pb2.SPIFFEID(trust_domain="example.org", path="/p"),
    selectors=[types_pb2.Selector(type="unix", value="uid:0")],
)


def test_json_prints_defaults_and_leaves_out_unset_messages() -> None:
    answer = entry_pb2.BatchCreateEntryResponse(
        results=[
            entry_pb2.BatchCreateEntryResponse.Result(
                status=types_pb2.Status(code=6, message="similar entry already exists"), entry=ENTRY
            )
        ]
    )
    assert to_json(answer) == (
        '{"results":[{"entry":{"admin":false,"created_at":"0","dns_names":[],"downstream":false,"expires_at":"0",'
        '"federates_with":[],"hint":"","id":"e1","jwt_svid_ttl":0,"parent_id":{"path":"/p","trust_domain":'
        '"example.org"},"revision_number":"0","selectors":[{"type":"unix","value":"uid:0"}],"spiffe_id":{"path":"/a",'
        '"trust_domain":"example.org"},"store_svid":false,"x509_svid_ttl":0},"status":{"code":6,'
        '"message":"similar entry already exists"}}]}'
    )
    assert to_json(agent_pb2.CountAgentsResponse()) == '{"count":0}'
    assert to_json(entry_pb2.ListEntriesResponse()) == '{"entries":[],"next_page_token":""}'
    assert to_json(types_pb2.X509Certificate(asn1=b"\xff\xfe")) == '{"asn1":"//4=","tainted":false}'


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_is_json_whatever_is_in_it(value: object) -> None:
    text = dump_json(value)
    assert json.loads(text) == value
    assert not set(text) & set("<>&\u2028\u2029")


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain", '"plain"'),
        ('a "b" \\', '"a \\"b\\" \\\\"'),
        ("line\nfeed\t", '"line\\nfeed\\t"'),
        ("\x00\x1b\x7f", '"\\x00\\x1b\\x7f"'),
        ("é ✓", '"é ✓"'),
        ("\u2028", '"\\u2028"'),
        ("\U000e0001", '"\\U000e0001"'),
    ],
)
def test_text_is_quoted_as_go_quotes_it(text: str, quoted: str) -> None:
    assert quote(text) == quoted


def test_times_are_printed_as_go_prints_them() -> None:
    assert utc_time(2000000000) == "2033-05-18 03:33:20 +0000 UTC"
    assert utc_time(0) == "1970-01-01 00:00:00 +0000 UTC"
    assert local_time(2000000000)[:10] in ("2033-05-17", "2033-05-18")


def test_an_entry_with_nothing_special_is_short() -> None:
    assert list(entry_lines(ENTRY)) == [
        "Entry ID                : e1",
        "SPIFFE ID               : spiffe://example.org/a",
        "Parent ID               : spiffe://example.org/p",
        "Revision                : 0",
        "X509-SVID TTL           : default",
        "JWT-SVID TTL            : default",
        "Selector                : unix:uid:0",
        "",
    ]


def test_an_entry_with_everything_shows_everything() -> None:
    entry = types_pb2.Entry()
    entry.CopyFrom(ENTRY)
    entry.MergeFrom(
        types_pb2.Entry(
            id="",
            revision_number=3,
            downstream=True,
            admin=True,
            store_svid=True,
            x509_svid_ttl=60,
            jwt_svid_ttl=30,
            expires_at=2000000000,
            federates_with=["other.org"],
            dns_names=["b.x", "a.x"],
            hint="h",
        )
    )
    entry.additional_attributes.disable_x509_svid_prefetch = True
    entry.additional_attributes.jwt_svid_include_jti = True
    assert list(entry_lines(entry))[3:] == [
        "Revision                : 3",
        "Downstream              : true",
        "X509-SVID TTL           : 60",
        "JWT-SVID TTL            : 30",
        "Expiration time         : 2033-05-18 03:33:20 +0000 UTC",
        "Selector                : unix:uid:0",
        "FederatesWith           : other.org",
        "DNS name                : b.x",
        "DNS name                : a.x",
        "Admin                   : true",
        "StoreSvid               : true",
        "Hint                    : h",
        "DisableX509SvidPrefetch : true",
        "JwtSvidIncludeJti       : true",
        "",
    ]
    assert next(iter(entry_lines(types_pb2.Entry()))) == "Entry ID                : (none)"


def test_a_banned_agent_has_no_serial_number() -> None:
    agent = types_pb2.Agent(
        id=types_pb2.SPIFFEID(trust_domain="example.org", path="/spire/agent/x"),
        attestation_type="join_token",
        x509svid_serial_number="42",
        can_reattest=True,
        agent_version="1.15.3",
    )
    lines = list(agent_lines(agent))
    assert lines[0] == "SPIFFE ID         : spiffe://example.org/spire/agent/x"
    assert lines[3:] == [
        "Serial number     : 42",
        "Can re-attest     : true",
        "Agent version     : 1.15.3",
        "",
    ]
    agent.banned = True
    assert list(agent_lines(agent))[3] == "Banned            : true"


def test_entries_are_shown_by_id_then_parent_then_lifetime_then_selectors() -> None:
    def entry(path: str, parent: str, ttl: int, *selectors: str) -> types_pb2.Entry:
        return types_pb2.Entry(
            spiffe_id=types_pb2.SPIFFEID(trust_domain="example.org", path=path),
            parent_id=types_pb2.SPIFFEID(trust_domain="example.org", path=parent),
            x509_svid_ttl=ttl,
            selectors=[types_pb2.Selector(type="unix", value=value) for value in selectors],
        )

    wanted = [
        entry("/a", "/p", 1, "x"),
        entry("/a", "/p", 2, "x"),
        entry("/a", "/p", 2, "y"),
        entry("/a", "/p", 2, "a", "b"),
        entry("/a", "/q", 0, "x"),
        entry("/b", "/p", 0, "x"),
    ]
    shuffled = [wanted[3], wanted[5], wanted[1], wanted[0], wanted[4], wanted[2]]
    shuffled[0].selectors.reverse()
    assert sorted_entries(shuffled) == wanted


def test_a_console_writes_where_it_was_told() -> None:
    out, err = io.StringIO(), io.StringIO()
    console = Console(out, err, JSON)
    console.out("x")
    console.err("y")
    console.json(agent_pb2.CountAgentsResponse(count=2))
    assert (out.getvalue(), err.getvalue()) == ('x\n{"count":2}\n', "y\n")
    assert console.wants_json
