from collections.abc import Callable
from datetime import timedelta

import pytest

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.hcl import Fields, parse

TEXT = """\
agent {
  trust_domain = "example.org"
  server_port = "8081"
  insecure_bootstrap = true
  sync_interval = "5s"
  Log_Level = "INFO"
  delegates = ["a", "b"]
  one = "alone"
  sds { name = "x" }
  port_text = 8081
}
"""


@pytest.fixture
def agent() -> Fields:
    block = Fields(parse(TEXT, "agent.conf"), "").block("agent")
    assert block is not None
    return block


def test_typed_values(agent: Fields) -> None:
    assert agent.text("trust_domain") == "example.org"
    assert agent.text("port_text") == "8081"
    assert agent.integer("server_port") == 8081
    assert agent.boolean("insecure_bootstrap") is True
    assert agent.duration("sync_interval") == timedelta(seconds=5)
    assert agent.text("log_level") == "INFO"
    assert agent.texts("delegates") == ("a", "b")
    assert agent.texts("one") == ("alone",)
    assert agent.has("sds")
    sds = agent.block("sds")
    assert sds is not None
    with sds:
        assert sds.text("name") == "x"
    agent.finish()


def test_what_is_not_there_is_none(agent: Fields) -> None:
    assert agent.text("x") is None
    assert agent.boolean("x") is None
    assert agent.integer("x") is None
    assert agent.duration("x") is None
    assert agent.texts("x") is None
    assert agent.block("x") is None
    assert agent.bodies("x") == ()
    assert agent.labelled("x") == ()


def test_an_unknown_key_is_refused_with_its_place_and_the_nearest_name() -> None:
    with (
        pytest.raises(ConfigurationError) as caught,
        Fields(parse('a = 1\ntrust_domian = "x"', "f"), "agent") as fields,
    ):
        fields.integer("a")
        fields.text("trust_domain")
    assert str(caught.value) == "f:2:1: unknown key 'trust_domian' in agent; did you mean 'trust_domain'?"


def test_a_key_like_no_other_gets_no_suggestion() -> None:
    with pytest.raises(ConfigurationError) as caught, Fields(parse("zzz = 1", "f"), "") as fields:
        fields.text("trust_domain")
    assert str(caught.value) == "f:1:1: unknown key 'zzz'"


def test_an_error_inside_is_not_hidden_by_unknown_keys() -> None:
    with pytest.raises(KeyError), Fields(parse("a = 1"), ""):
        raise KeyError


@pytest.mark.parametrize(
    ("text", "read", "words"),
    [
        ("a = true", lambda f: f.text("a"), "'a' in x must be a string, not a boolean"),
        ("a {}", lambda f: f.text("a"), "'a' in x must be a string, not a block"),
        ("a = [1]", lambda f: f.text("a"), "'a' in x must be a string, not a list"),
        ('a = "true"', lambda f: f.boolean("a"), "must be true or false (without quotes), not a string"),
        ("a = 1", lambda f: f.boolean("a"), "must be true or false, not a number"),
        ('a = "x"', lambda f: f.integer("a"), "must be a whole number, not 'x'"),
        ("a = 1.5", lambda f: f.integer("a"), "must be a whole number, not '1.5'"),
        ("a = true", lambda f: f.integer("a"), "must be a whole number, not 'true'"),
        ("a = -1", lambda f: f.integer("a", minimum=0), "must be at least 0, not -1"),
        ("a = 70000", lambda f: f.integer("a", maximum=65535), "must be at most 65535, not 70000"),
        ('a = "' + "9" * 5000 + '"', lambda f: f.integer("a"), "must be a whole number"),
        ('a = "5"', lambda f: f.duration("a"), "'5' is no duration: write it like 90s, 15m or 1h30m"),
        ("a = true", lambda f: f.duration("a"), "is no duration"),
        ('a = "1s"', lambda f: f.duration("a", minimum=timedelta(seconds=5)), "must be at least 5s, not 1s"),
        ("a = [1, [2]]", lambda f: f.texts("a"), "'a' in x must list strings, not a list"),
        ("a = [true]", lambda f: f.texts("a"), "'a' in x must list strings, not a boolean"),
        ("a = 1", lambda f: f.block("a"), "'a' in x must be a block, not a number"),
        ("a = [{}, 1]", lambda f: f.bodies("a"), "'a' in x must be a block, not a number"),
        ("a { b = 1 }", lambda f: f.labelled("a"), "'b' in x must be a block, not a number"),
        ("a {} a = 1", lambda f: f.text("a"), "'a' in x was set in line 1 already"),
    ],
)
def test_wrong_kinds_are_refused_with_their_place(text: str, read: Callable[[Fields], object], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(Fields(parse(text, "f"), "x"))
    assert words in str(caught.value)
    assert (caught.value.file, caught.value.line) == ("f", 1)


def test_an_empty_duration_is_none() -> None:
    assert Fields(parse('a = ""'), "").duration("a") is None


def test_labelled_blocks_come_in_their_order_in_every_form() -> None:
    for text in (
        'p "b" { x = 1 } p "a" { x = 2 }',
        "p { b { x = 1 } a { x = 2 } }",
        '{"p": {"b": {"x": 1}, "a": {"x": 2}}}',
        '{"p": [{"b": {"x": 1}}, {"a": {"x": 2}}]}',
    ):
        found = Fields(parse(text), "").labelled("p")
        assert [(label, Fields(body, label).integer("x")) for label, body in found] == [("b", 1), ("a", 2)]


def test_repeated_blocks_are_read_together_and_cannot_contradict_each_other() -> None:
    both = Fields(parse("s { a = 1 }\ns { b = 2 }"), "").block("s")
    assert both is not None
    assert (both.integer("a"), both.integer("b")) == (1, 2)
    twice = Fields(parse("s { a = 1 }\ns { a = 2 }"), "").block("s")
    assert twice is not None
    with pytest.raises(ConfigurationError, match="'a' in s was set in line 1 already"):
        twice.integer("a")


def test_errors_of_the_reader_point_at_the_key_or_the_block(agent: Fields) -> None:
    assert str(agent.error("too small", "server_port")) == "agent.conf:3:3: too small"
    assert str(agent.error("too few")) == "agent.conf:1:7: too few"
    assert agent.position.line == 1
    assert str(Fields((), "x").error("nothing")) == "nothing"
