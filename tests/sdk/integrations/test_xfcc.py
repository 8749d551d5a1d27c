"""`X-Forwarded-Client-Cert`: what a trusted front may say, and that nothing ambiguous is ever believed."""

import hashlib
import json
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import example, given
from hypothesis import strategies as st

from authsec_sdk.errors import CallerError, InvalidSpiffeIDError
from authsec_sdk.integrations.trusted_front import (
    ForwardedPeer,
    Front,
    TrustedFronts,
    is_forwarded_header,
    without_forwarded,
)
from authsec_sdk.integrations.xfcc import (
    MAX_ELEMENTS,
    MAX_LENGTH,
    MAX_PAIRS,
    InvalidForwardedHeaderError,
    XFCCElement,
    parse_xfcc,
)
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.testing import TestCA

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "xfcc.json").read_text("utf-8"))
OWN, FRONT = SpiffeID.parse("spiffe://example.org/payments"), SpiffeID.parse("spiffe://example.org/front")
FRONTEND = SpiffeID.parse("spiffe://example.org/frontend")
FRONTS = TrustedFronts(OWN, [FRONT])
DIGEST = "ab" * 32
SAID = f"By={OWN};Hash={DIGEST};URI={FRONTEND}"


def named(kind: str) -> Any:
    return pytest.mark.parametrize("vector", VECTORS[kind], ids=lambda vector: vector["name"])


def believed(text: str, peer: SpiffeID | None = FRONT, name: str = "x-forwarded-client-cert") -> ForwardedPeer | None:
    return FRONTS.read(peer, [("accept", "*/*"), (name, text)])


@named("good")
def test_good(vector: dict[str, str]) -> None:
    assert believed(vector["text"]) == ForwardedPeer(FRONTEND, FRONT, DIGEST)


@named("wrong")
def test_wrong(vector: dict[str, str]) -> None:
    with pytest.raises(InvalidForwardedHeaderError) as refusal:
        believed(vector["text"])
    assert vector["error"] in str(refusal.value)


def test_values_come_as_they_were_meant() -> None:
    [element] = parse_xfcc(
        f'By=a;By=b;Hash={DIGEST.upper()};Subject="CN=\\"x, y\\"\\,z";Cert="p%20q";Chain=c;URI=u;DNS=d'
    )
    assert element == XFCCElement(("a", "b"), DIGEST, "p%20q", "c", 'CN="x, y"\\,z', ("u",), ("d",))


def test_sizes_are_bounded() -> None:
    parse_xfcc(",".join(["DNS=a"] * MAX_ELEMENTS))
    parse_xfcc(";".join(["DNS=a"] * MAX_PAIRS))
    for text in (
        ",".join(["DNS=a"] * (MAX_ELEMENTS + 1)),
        ";".join(["DNS=a"] * (MAX_PAIRS + 1)),
        "DNS=" + "a" * MAX_LENGTH,
    ):
        with pytest.raises(InvalidForwardedHeaderError, match="more than"):
            parse_xfcc(text)


def test_backslashes_take_no_longer_than_other_text() -> None:
    with pytest.raises(InvalidForwardedHeaderError):
        parse_xfcc('Subject="' + "\\" * (MAX_LENGTH - 20))
    with pytest.raises(InvalidForwardedHeaderError):
        parse_xfcc('Subject="' + "\\a" * (MAX_LENGTH // 2 - 20))


# --- properties ----------------------------------------------------------------------------------------------------

plain = st.text(st.sampled_from("abc:/.-_%+'~!"), max_size=8)
texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)
# What a front that escapes quotes can write so that it reads one way only.
quotable = texts.filter(lambda text: '\\"' not in text and not text.endswith("\\"))
elements = st.builds(
    XFCCElement,
    by=st.lists(plain, min_size=1, max_size=2).map(tuple),
    digest=st.none() | st.just(DIGEST),
    cert=st.none() | plain,
    subject=st.none() | quotable,
    uri=st.lists(quotable, max_size=3).map(tuple),
    dns=st.lists(plain, max_size=2).map(tuple),
)


def written(element: XFCCElement) -> str:
    """Write an element as a front does."""

    def value(text: str) -> str:
        if text.isascii() and all(char.isalnum() or char in ":/.-_%+'~!" for char in text):
            return text
        return '"' + text.replace('"', '\\"') + '"'

    pairs = [("By", text) for text in element.by]
    pairs += [
        (key, text)
        for key, text in (("Hash", element.digest), ("Cert", element.cert), ("Subject", element.subject))
        if text is not None
    ]
    pairs += [("URI", text) for text in element.uri] + [("DNS", text) for text in element.dns]
    return ";".join(f"{key}={value(text)}" for key, text in pairs)


@given(st.lists(elements, min_size=1, max_size=4))
def test_what_is_written_is_read(said: list[XFCCElement]) -> None:
    assert list(parse_xfcc(",".join(map(written, said)))) == said


def envoys_reading(text: str) -> list[list[str]] | None:
    """Split as a reader does that knows but quotes, each of them preceded by a backslash or not."""
    quoted, escaped = False, False
    found, piece = [[""]], ""
    for char in text:
        if char == '"' and not escaped:
            quoted = not quoted
        escaped = char == "\\" and not escaped
        if char in ",;" and not quoted:
            found[-1][-1] = piece
            piece = ""
            if char == ",":
                found.append([""])
            else:
                found[-1].append("")
        else:
            piece += char
    found[-1][-1] = piece
    return None if quoted else found


hostile = st.lists(
    st.sampled_from(
        ["By=", "URI=", "Hash=", "Subject=", "a", ",", ";", '"', "\\", " ", str(OWN), DIGEST, "spiffe://b.test/x"]
    ),
    max_size=16,
).map("".join)


@given(hostile | st.text(max_size=30))
@example('Subject="\\\\"')
def test_other_readers_see_the_same_pairs_or_it_is_refused(text: str) -> None:
    try:
        ours = parse_xfcc(text)
    except InvalidForwardedHeaderError:
        return
    theirs = envoys_reading(text)
    assert theirs is not None
    pairs = [[piece.partition("=") for piece in element] for element in theirs]
    for element, seen in zip(ours, pairs, strict=True):
        for key, values in (("by", element.by), ("uri", element.uri), ("dns", element.dns)):
            read = [value.strip('"') if '"' in value else value for name, _, value in seen if name.lower() == key]
            assert [value.replace('\\"', '"').strip('"') for value in read] == [value.strip('"') for value in values]


@given(hostile, hostile)
def test_nothing_an_attacker_puts_before_or_into_the_uri_names_another_client(before: str, uri: str) -> None:
    """A front appends to what a client sent, and writes the URI of its certificate as it is."""
    attackers = f"spiffe://evil.test/a{uri}"
    text = f"{before}{',' if before else ''}By={OWN};Hash={'cd' * 32};URI={attackers}"
    try:
        peer = believed(text)
    except InvalidForwardedHeaderError:
        return
    assert peer is not None
    assert str(peer.spiffe_id) == attackers
    assert peer.digest == "cd" * 32


# --- who is believed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", [None, FRONTEND, OWN, SpiffeID.parse("spiffe://other.test/front")])
def test_others_are_not_even_read(peer: SpiffeID | None) -> None:
    assert believed(SAID, peer) is None
    assert believed("rubbish", peer) is None


SPELLINGS = [
    "X_Forwarded_Client_Cert",
    "x_forwarded-client-cert",
    "x-forwarded-client_cert",
    "X-Forwarded-Client.Cert",
    "x forwarded client cert",
]


@pytest.mark.parametrize("name", SPELLINGS)
def test_other_spellings_are_refused_from_a_front(name: str) -> None:
    with pytest.raises(InvalidForwardedHeaderError, match="may take for"):
        believed(SAID, name=name)
    both = [(name, SAID), ("x-forwarded-client-cert", SAID)]
    for headers in (both, both[::-1]):
        with pytest.raises(InvalidForwardedHeaderError):
            FRONTS.read(FRONT, headers)


def test_two_headers_are_refused() -> None:
    with pytest.raises(InvalidForwardedHeaderError, match="2 headers"):
        FRONTS.read(FRONT, [("X-Forwarded-Client-Cert", SAID), ("x-forwarded-client-cert", SAID)])


def test_a_front_may_speak_for_nobody() -> None:
    assert FRONTS.read(FRONT, [("accept", "*/*")]) is None


def test_bytes_are_read_as_texts_are() -> None:
    peer = FRONTS.read(FRONT, [(b"x-forwarded-client-cert", SAID.encode())])
    assert peer == ForwardedPeer(FRONTEND, FRONT, DIGEST)
    with pytest.raises(InvalidForwardedHeaderError):
        FRONTS.read(FRONT, [(b"x-forwarded-client-cert", SAID.encode() + b"\xff")])


def test_every_spelling_is_kept_from_the_application() -> None:
    headers = [(name, "x") for name in [*SPELLINGS, "X-Forwarded-Client-Cert", "x-forwarded-for"]]
    assert without_forwarded(headers) == [("x-forwarded-for", "x")]
    assert not is_forwarded_header("x-forwarded-client-cert-2")


def test_a_front_with_a_name_of_its_own_is_told_so() -> None:
    fronts = TrustedFronts(OWN, [Front(FRONT, terminates_as=FRONT), "spiffe://example.org/sidecar"])
    said = f"By={FRONT};Hash={DIGEST};URI={FRONTEND}"
    assert fronts.read(FRONT, [("x-forwarded-client-cert", said)]) == ForwardedPeer(FRONTEND, FRONT, DIGEST)
    for peer, text in ((FRONT, SAID), (SpiffeID.parse("spiffe://example.org/sidecar"), said)):
        with pytest.raises(InvalidForwardedHeaderError, match="By="):
            fronts.read(peer, [("x-forwarded-client-cert", text)])


def test_a_certificate_that_comes_along_must_be_the_one_spoken_of() -> None:
    svid, other = TestCA("example.org").svid("/frontend"), TestCA("example.org").svid("/frontend")

    def said(cert: Any, digest: str, uri: object = FRONTEND) -> str:
        pem = urllib.parse.quote(cert.leaf.public_bytes(Encoding.PEM).decode(), safe="")
        return f'By={OWN};Hash={digest};Cert="{pem}";URI={uri}'

    digest = hashlib.sha256(svid.chain_der()[0]).hexdigest()
    assert believed(said(svid, digest)) == ForwardedPeer(FRONTEND, FRONT, digest)
    for text in (said(other, digest), said(svid, DIGEST), said(svid, digest, "spiffe://example.org/admin")):
        with pytest.raises(InvalidForwardedHeaderError, match="not the one"):
            believed(text)


@pytest.mark.parametrize("fronts", [[], "spiffe://example.org/front", [FRONT, Front(FRONT)]])
def test_wrong_configurations(fronts: Any) -> None:
    with pytest.raises(CallerError):
        TrustedFronts(OWN, fronts)
    with pytest.raises(InvalidSpiffeIDError):
        TrustedFronts("payments", [FRONT])


def test_the_types_differ() -> None:
    assert believed(SAID) != FRONTEND
    assert not isinstance(believed(SAID), SpiffeID)
    assert FRONT in FRONTS
    assert FRONTEND not in FRONTS
    assert repr(FRONTS) == "TrustedFronts('spiffe://example.org/payments', ['spiffe://example.org/front'])"
