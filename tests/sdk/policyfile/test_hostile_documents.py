"""Documents that were made to hurt: each ends in one error, soon, and whatever is read is read alike in each format."""

from __future__ import annotations

import json
import time
from typing import Any, Literal

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from authsec_sdk.policyfile import InvalidPolicyError, parse_policy
from authsec_sdk.policyfile.document import MAX_BYTES

Format = Literal["yaml", "toml", "json"]
FORMATS: list[Format] = ["yaml", "toml", "json"]
SIZE = MAX_BYTES - 1000


def fill(piece: str) -> str:
    return piece * (SIZE // len(piece))


def said(data: bytes, format_: Format) -> str:
    """What is wrong with a document; any other exception than the one for that gets through."""
    try:
        parse_policy(data, format_)
    except InvalidPolicyError as error:
        return str(error)
    return ""


BOMBS = {
    "yaml billion laughs": "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nversion: *c\n",
    "yaml anchors": fill("- &a x\n"),
    "deep lists": fill("["),
    "deep objects": fill('{"a":'),
    "deep yaml": "".join(" " * depth + "-\n" for depth in range(600)),
    "yaml keys": fill("? "),
    "yaml colons": fill("a: "),
    "yaml long key": "a" * SIZE + ": 1",
    "yaml quotes": fill('"'),
    "yaml percent": fill("%A\n"),
    "one list": "[" + fill("1,") + "1]",
    "one long text": '"' + "a" * SIZE + '"',
    "backslashes": '"' + fill("\\"),
    "escaped quotes": fill('"\\"'),
    "toml dotted key": fill("a.") + "a = 1",
    "toml quoted key": fill('"a" . ') + "a = 1",
    "toml deep header": "[" + "a." * 11 + "a]\n" + fill("b.c.d=1\n"),
    "toml headers": "".join(f"[a{number}.b.c.d.e.f.g.h]\n" for number in range(9000)),
    "toml inline": "a = " + fill("{a="),
    "toml unclosed": "a = " + fill("'''"),
    "toml basic": 'a = """' + fill('""\\"'),
    "toml comment": fill("# x\n"),
    "toml tables": fill("[[rules]]\n"),
    "line ends": fill("\n"),
    "blanks": fill(" "),
    "tabs": fill("\t"),
    "digits": "1" * SIZE,
    "minus": fill("-"),
    "a megabyte": "x" * 1_000_000,
}


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_in_one_error_soon(name: str, format_: Format) -> None:
    begun = time.process_time()
    with pytest.raises(InvalidPolicyError):
        parse_policy(BOMBS[name].encode(), format_)
    assert time.process_time() - begun < 20  # a document of the largest size takes a tenth of that; bombs take for ever


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    "data", [b"\xff", b"version: \xc3", b"\xed\xa0\x80", b"v\x00", "\ufeff{}".encode(), "a\n\n\u0085".encode()]
)
def test_bytes_that_are_no_plain_text(data: bytes, format_: Format) -> None:
    with pytest.raises(InvalidPolicyError) as info:
        parse_policy(data, format_)
    assert info.value.line is not None


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from(FORMATS))
def test_no_bytes_raise_anything_else(data: bytes, format_: Format) -> None:
    assert said(data, format_).isprintable()


TEXT = st.text(alphabet=st.sampled_from(list("[]{}\"'\\,.:=-?#&*!|>%@` \n\r\tab1=\u00e9")), max_size=60)


@settings(max_examples=400, deadline=None)
@given(TEXT, st.sampled_from(FORMATS))
def test_no_text_of_marks_raises_anything_else(text: str, format_: Format) -> None:
    whole = f"version: 1\nrules: {text}", f"version = 1\nrules = {text}", f'{{"version": 1, "rules": {text}}}'
    for each in (text, *whole):
        assert said(each.encode(), format_).isprintable()


# --- the same in each format -----------------------------------------------------------------------------------------

WORD = st.from_regex(r"[a-z]{1,3}", fullmatch=True)
PRINTED = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=9)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | PRINTED | WORD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3),
    max_leaves=6,
)


def text_or_list(items: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return items | st.lists(items, min_size=1, max_size=3)


PEERS = text_or_list(st.sampled_from(["example.org", "spiffe://a.test/b", "spiffe://a.test/*/c", "spiffe://a.test/**"]))
PATHS = text_or_list(st.sampled_from(["/", "/a", "/a/*", "/**", "/\u00e9 \U0001f600"]))
HTTP = st.fixed_dictionaries({"paths": PATHS}, optional={"methods": text_or_list(st.sampled_from(["GET", "PUT"]))})
DATABASE = st.fixed_dictionaries({"names": text_or_list(WORD), "roles": st.just("*") | text_or_list(WORD)})
SCOPE = st.one_of(
    st.fixed_dictionaries({"everything": st.just(True)}),
    st.fixed_dictionaries({"http": HTTP | st.lists(HTTP, min_size=1, max_size=2)}),
    st.fixed_dictionaries({"grpc": text_or_list(st.sampled_from(["/*", "/a.S/*", "/a.S/G"])), "database": DATABASE}),
)
RULE = st.builds(
    lambda effect, peers, scope, note: {effect: peers, **scope, **({"note": note} if note is not None else {})},
    st.sampled_from(["allow", "deny"]),
    PEERS,
    SCOPE,
    st.none() | PRINTED,
)


def document(rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {"version": 1, "rules": [{"name": f"rule-{number}", **rule} for number, rule in enumerate(rules)]}


def toml(value: Any) -> str:
    """As inline TOML, whose texts in double quotes are JSON's where nothing but ASCII is escaped."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",\n".join(toml(each) for each in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def outcome(data: str, format_: Format) -> Any:
    try:
        return parse_policy(data.encode(), format_)
    except InvalidPolicyError as error:
        return tuple((each.key, each.message) for each in error.problems)


def in_each_format(value: dict[str, Any]) -> list[Any]:
    block = yaml.safe_dump(value, allow_unicode=True, sort_keys=False)
    flow = yaml.safe_dump(value, allow_unicode=True, default_flow_style=True)
    tables = "\n".join(f"{key} = {toml(each)}" for key, each in value.items())
    texts: list[tuple[str, Format]] = [(block, "yaml"), (flow, "yaml"), (tables, "toml"), (json.dumps(value), "json")]
    texts.append((json.dumps(value, ensure_ascii=False), "yaml"))  # which takes JSON, but for pairs of surrogates
    return [outcome(*each) for each in texts]


@settings(deadline=None)
@given(st.lists(RULE, max_size=4))
def test_a_policy_is_the_same_in_each_format(rules: list[dict[str, Any]]) -> None:
    first, *others = in_each_format(document(rules))
    assert not isinstance(first, tuple), first
    assert all(other == first for other in others)


@settings(deadline=None)
@given(st.lists(RULE, min_size=1, max_size=2), st.sampled_from(["name", "allow", "http", "grpc", "x"]), ANYTHING)
def test_an_error_is_the_same_in_each_format(rules: list[dict[str, Any]], key: str, value: Any) -> None:
    assume("null" not in json.dumps(value))  # which TOML has not
    damaged = document(rules)
    damaged["rules"][0][key] = value
    _, _, from_toml, from_json, _ = in_each_format(damaged)
    assert from_toml == from_json
