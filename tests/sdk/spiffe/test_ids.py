"""SPIFFE-ID section 2: `SpiffeID` and `TrustDomain`."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk import errors
from authsec_sdk.spiffe import SpiffeID, TrustDomain

VECTORS = Path(__file__).parents[2] / "vectors"
IDS = json.loads((VECTORS / "spiffe_ids.json").read_text("utf-8"))
TRUST_DOMAINS = json.loads((VECTORS / "trust_domains.json").read_text("utf-8"))

# Written anew here, from the standard's text, to judge the code by.
GRAMMAR = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/(?!\.{1,2}(?:/|\Z))[a-zA-Z0-9._-]+)*", re.ASCII)

names = st.from_regex(re.compile(r"[a-z0-9._-]{1,40}", re.ASCII), fullmatch=True)
segments = st.from_regex(re.compile(r"[a-zA-Z0-9._-]{1,20}", re.ASCII), fullmatch=True).filter(
    lambda text: text not in {".", ".."}
)
ids = st.builds(lambda name, parts: SpiffeID.from_segments(TrustDomain(name), *parts), names, st.lists(segments))


def by_name(vectors: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["name"]) for vector in vectors])


@by_name(IDS["good"])
def test_good_ids_are_read(vector: dict[str, str]) -> None:
    spiffe_id = SpiffeID.parse(vector["text"])
    assert str(spiffe_id) == vector["text"]
    assert spiffe_id.trust_domain == TrustDomain(vector["trust_domain"])
    assert spiffe_id.path == vector["path"]
    assert spiffe_id == SpiffeID.from_path(TrustDomain(vector["trust_domain"]), vector["path"])
    assert spiffe_id == SpiffeID.from_segments(spiffe_id.trust_domain, *spiffe_id.segments)
    assert TrustDomain.parse(vector["text"]) == spiffe_id.trust_domain


@by_name(IDS["wrong"])
def test_wrong_ids_are_refused(vector: dict[str, str]) -> None:
    with pytest.raises(errors.InvalidSpiffeIDError) as refusal:
        SpiffeID.parse(vector["text"])
    assert type(refusal.value).__name__ == vector["error"]
    assert isinstance(refusal.value, ValueError)


@by_name(TRUST_DOMAINS["good"])
def test_good_trust_domains_are_read(vector: dict[str, str]) -> None:
    trust_domain = TrustDomain.parse(vector["text"])
    assert trust_domain.name == str(trust_domain) == vector["trust_domain"]
    assert str(trust_domain.id) == f"spiffe://{vector['trust_domain']}"
    assert trust_domain.id.path == ""


@by_name(TRUST_DOMAINS["wrong"])
def test_wrong_trust_domains_are_refused(vector: dict[str, str]) -> None:
    with pytest.raises(errors.InvalidSpiffeIDError) as refusal:
        TrustDomain.parse(vector["text"])
    assert type(refusal.value).__name__ == vector["error"]


def test_every_character_of_a_trust_domain_is_judged() -> None:
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789.-_")
    for code in [*range(0x180), 0x2028, 0xFF21, 0x1F600]:
        name = f"a{chr(code)}b"
        if chr(code) in allowed:
            assert SpiffeID.parse(f"spiffe://{name}/x").trust_domain.name == name
            continue
        with pytest.raises(errors.InvalidTrustDomainError):
            TrustDomain(name)
        if chr(code) != "/":  # there it ends, as it should
            with pytest.raises(errors.InvalidTrustDomainError):
                SpiffeID.parse(f"spiffe://{name}/x")


def test_every_character_of_a_path_is_judged() -> None:
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")
    trust_domain = TrustDomain("td")
    for code in [*range(0x180), 0x2028, 0xFF21, 0x1F600]:
        segment = f"a{chr(code)}b"
        if chr(code) in allowed:
            assert SpiffeID.parse(f"spiffe://td/{segment}").segments == (segment,)
            assert SpiffeID.from_segments(trust_domain, segment).segments == (segment,)
            continue
        with pytest.raises(errors.InvalidSpiffeIDError):
            SpiffeID.from_segments(trust_domain, segment)
        if chr(code) != "/":
            with pytest.raises(errors.InvalidSpiffeIDError):
                SpiffeID.parse(f"spiffe://td/{segment}")


def test_a_trust_domain_has_at_most_255_bytes() -> None:
    assert len(TrustDomain("a" * 255).name) == 255
    for text in ("a" * 256, "spiffe://" + "a" * 256, "spiffe://" + "a" * 256 + "/b"):
        with pytest.raises(errors.InvalidTrustDomainError, match="longer than 255"):
            TrustDomain.parse(text)


def test_an_id_has_at_most_2048_bytes() -> None:
    longest = "spiffe://td/" + "a" * (2048 - len("spiffe://td/"))
    assert str(SpiffeID.parse(longest)) == longest
    with pytest.raises(errors.InvalidSpiffeIDError, match="longer than 2048"):
        SpiffeID.parse(longest + "a")
    with pytest.raises(errors.InvalidSpiffeIDError, match="longer than 2048"):
        SpiffeID.parse(longest).append("a")
    with pytest.raises(errors.InvalidSpiffeIDError, match="longer than 2048"):
        SpiffeID.from_path(TrustDomain("td"), "/" + "a" * 2048)


def test_refusals_of_huge_texts_are_short() -> None:
    for text in ("x" * 10_000_000, "spiffe://" + "X" * 2000):
        with pytest.raises(errors.InvalidSpiffeIDError) as refusal:
            SpiffeID.parse(text)
        assert len(str(refusal.value)) < 400


@pytest.mark.parametrize("value", [None, b"spiffe://td/a", 5, ["spiffe://td/a"]])
def test_other_types_are_refused(value: Any) -> None:
    for parse in (SpiffeID.parse, TrustDomain.parse, TrustDomain):
        with pytest.raises(errors.InvalidSpiffeIDError):
            parse(value)
    with pytest.raises(errors.InvalidSpiffeIDError):
        SpiffeID(value)
    with pytest.raises(errors.InvalidSpiffeIDError):
        SpiffeID(TrustDomain("td"), value)
    with pytest.raises(errors.InvalidSpiffeIDError):
        SpiffeID.from_segments(TrustDomain("td"), value)


def test_an_id_is_not_a_text() -> None:
    spiffe_id = SpiffeID.parse("spiffe://td/a")
    assert spiffe_id != "spiffe://td/a"
    assert TrustDomain("td") != "td"
    assert spiffe_id not in {"spiffe://td/a": 1}


def test_ids_are_frozen() -> None:
    spiffe_id = SpiffeID.parse("spiffe://td/a")
    for name in ("path", "trust_domain", "anything"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(spiffe_id, name, "/b")
    with pytest.raises(AttributeError):
        spiffe_id.trust_domain.name = "other"  # type: ignore[misc]


def test_ids_sort_by_trust_domain_and_path() -> None:
    texts = ["spiffe://a/b", "spiffe://a", "spiffe://b", "spiffe://a/B", "spiffe://a.b/a"]
    assert [str(each) for each in sorted(map(SpiffeID.parse, texts))] == [
        "spiffe://a",
        "spiffe://a/B",
        "spiffe://a/b",
        "spiffe://a.b/a",
        "spiffe://b",
    ]


def test_membership_is_of_the_very_trust_domain() -> None:
    spiffe_id = SpiffeID.parse("spiffe://a.example.org/x")
    assert spiffe_id.member_of(TrustDomain("a.example.org"))
    assert not spiffe_id.member_of(TrustDomain("example.org"))


def test_append_adds_whole_segments() -> None:
    spiffe_id = SpiffeID.parse("spiffe://td/a")
    assert str(spiffe_id.append("b", "c")) == "spiffe://td/a/b/c"
    assert spiffe_id.append() == spiffe_id
    assert str(TrustDomain("td").id.append("a")) == "spiffe://td/a"
    for segment in ("", ".", "..", "b/c", "/b", "b c", "b\n"):
        with pytest.raises(errors.InvalidSpiffeIDError):
            spiffe_id.append(segment)


@pytest.mark.parametrize("path", ["a", "/", "//", "/a/", "/a//b", "/.", "/../a", "/a b", "/a\n", "/\n"])
def test_wrong_paths_are_refused(path: str) -> None:
    with pytest.raises(errors.InvalidSpiffeIDError):
        SpiffeID.from_path(TrustDomain("td"), path)


def test_a_forged_pickle_makes_no_invalid_value() -> None:
    honest = pickle.dumps(TrustDomain("victim"), protocol=0)
    with pytest.raises(errors.InvalidTrustDomainError):
        pickle.loads(honest.replace(b"victim", b"VICTIM"))


def test_repr_shows_the_text() -> None:
    assert repr(SpiffeID.parse("spiffe://td/a")) == "SpiffeID('spiffe://td/a')"


@given(ids)
def test_whatever_is_built_reads_back(spiffe_id: SpiffeID) -> None:
    again = SpiffeID.parse(str(spiffe_id))
    assert again == spiffe_id
    assert hash(again) == hash(spiffe_id)
    assert pickle.loads(pickle.dumps(spiffe_id)) == spiffe_id


noise = st.text(st.one_of(st.sampled_from("spife:/.a-_A0%\n\t @?#*"), st.characters()), max_size=30)


@given(st.one_of(noise, noise.map(lambda text: "spiffe://" + text), noise.map(lambda text: "spiffe://td/" + text)))
def test_what_is_accepted_is_what_the_grammar_says(text: str) -> None:
    try:
        spiffe_id = SpiffeID.parse(text)
    except errors.InvalidSpiffeIDError:
        assert not GRAMMAR.fullmatch(text)
    else:
        assert GRAMMAR.fullmatch(text)
        assert str(spiffe_id) == text
