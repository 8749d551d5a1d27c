"""Agent path templates: what upstream documents, and everything else refused by name before the first node comes."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icp_server.nodeattestors.path_template import Known, PathTemplate, PathTemplateError, Value

KNOWN = Known(frozenset({"PluginName", "Subject.CommonName", "ValidPrincipals", "Serial"}), maps=frozenset({"San"}))
FIELDS: dict[str, Value] = {
    "PluginName": "x509pop",
    "Subject.CommonName": "Node-7.Example.org",
    "ValidPrincipals": ("a.example.org", "b"),
    "Serial": 7,
    "San.rack": "r/1",
}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/static", "/static"),
        ("/{{ .PluginName }}/{{ .Serial }}", "/x509pop/7"),
        ("/{{.PluginName}}/x", "/x509pop/x"),
        ("/a/  {{- .PluginName -}}  /b", "/a/x509pop/b"),
        ("/{{ .San.rack }}", "/r/1"),
        ("/{{ index .ValidPrincipals 1 }}", "/b"),
        ("/{{ first .ValidPrincipals }}{{ last .ValidPrincipals }}", "/a.example.orgb"),
        ("/{{ .Subject.CommonName | lower }}", "/node-7.example.org"),
        ('/{{ .Subject.CommonName | lower | trimSuffix ".example.org" | trimPrefix "node-" }}', "/7"),
        ('/{{ replace "." "-" (lower .Subject.CommonName) }}', "/node-7-example-org"),
        ("/{{ trunc 4 .Subject.CommonName }}{{ trunc -3 .Subject.CommonName }}", "/Nodeorg"),
        ('/{{ join "/" (splitList "." .Subject.CommonName) }}', "/Node-7/Example/org"),
        ("/{{ trimAll `N7` .Subject.CommonName }}", "/ode-7.Example.org"),
        ('/{{ upper "\\"a" }}', '/"A'),
    ],
)
def test_what_can_be_written(text: str, path: str) -> None:
    assert PathTemplate.parse(text, KNOWN).render(FIELDS) == path


@pytest.mark.parametrize("name", ["sha1", "sha256"])
def test_digests(name: str) -> None:
    digest = hashlib.new(name, b"x509pop").hexdigest()
    assert PathTemplate.parse(f"/{{{{ {name}sum .PluginName }}}}", KNOWN).render(FIELDS) == f"/{digest}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/{{ .Nope }}", r"unknown field \.Nope; there are: \.PluginName, \.San\.<key>, "),
        ("/{{ .Subject }}", r"unknown field \.Subject;"),
        ("/{{ .San }}", r"unknown field \.San;"),
        ("/{{ .San.a.b }}", r"unknown field \.San\.a\.b"),
        ("/{{ if .PluginName }}a{{ end }}", "'if' is not supported"),
        ("/{{ regexReplaceAll .PluginName }}", "'regexReplaceAll' is not supported; there are: first, index, "),
        ("/{{ .PluginName ", "not closed"),
        ("/ .PluginName }}", "not closed"),
        ("/{{ }}", "a value is missing"),
        ('/{{ "a" }}', "must name a field or a function"),
        ("/{{ .PluginName .Serial }}", "'.Serial' is not expected"),
        ("/{{ lower }}", "lower takes 1 arguments, not 0"),
        ("/{{ .PluginName | .Serial }}", "only a function"),
        ("/{{ (lower .PluginName }}", "parenthesis"),
        ("/{{ lower ) }}", "is not expected|takes 1"),
        ("/{{ $x }}", "is not understood"),
        ("/{{/* a comment */}}", "is not understood"),
        ("/{{ index .ValidPrincipals 99999999999999999999 }}", "is not understood"),
        ("{{ " + "(" * 5000 + " }}", "too deep"),
    ],
)
def test_what_is_refused_when_it_is_read(text: str, words: str) -> None:
    with pytest.raises(PathTemplateError, match=words):
        PathTemplate.parse(text, KNOWN)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/{{ index .ValidPrincipals 2 }}", "index 2 of a list of 2"),
        ("/{{ index .ValidPrincipals -1 }}", "index -1"),
        ("/{{ .San.shelf }}", r"no \.San\.shelf"),
        ("/{{ .ValidPrincipals }}", "a list where a text"),
        ("/{{ lower .Serial }}", "cannot be applied"),
        ("/{{ index .PluginName 0 }}", "cannot be applied"),
    ],
)
def test_what_comes_to_nothing_for_a_node(text: str, words: str) -> None:
    template = PathTemplate.parse(text, KNOWN)
    with pytest.raises(PathTemplateError, match=words):
        template.render(FIELDS)


@given(st.text(alphabet='{}-. |()"`\\/abPluginNameindex0 9\n', max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        PathTemplate.parse(text, KNOWN).render(FIELDS)
    except PathTemplateError:
        pass


@given(st.text(alphabet=st.characters(exclude_characters="{}", codec="utf-8"), max_size=40))
def test_text_without_actions_stays_as_it_is(text: str) -> None:
    assert PathTemplate.parse(text, KNOWN).render({}) == text


@given(st.text(max_size=40))
def test_what_a_node_says_is_never_read_as_a_template(name: str) -> None:
    template = PathTemplate.parse("/{{ .Subject.CommonName }}", KNOWN)
    assert template.render({"Subject.CommonName": name}) == f"/{name}"
