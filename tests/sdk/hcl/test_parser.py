import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.hcl import Body, load, parse
from authsec_sdk.hcl.document import MAXIMUM_SIZE
from authsec_sdk.hcl.model import MAXIMUM_DEPTH

Tree = Callable[[Body], dict[str, Any]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"plain"', "plain"),
        (r'"\a\b\f\n\r\t\v\\\""', '\a\b\f\n\r\t\v\\"'),
        (r'"\101\x42\u00e9\U0001F600"', "AB\u00e9\U0001f600"),
        (r'"\xc3\xa9"', "\u00e9"),
        ('"${keep "all" \\n of {it}}"', '${keep "all" \\n of {it}}'),
        ('"$5 and $${x}"', "$5 and $${x}"),
        ("true", True),
        ("false", False),
        ("0", 0),
        ("-7", -7),
        ("0x1F", 31),
        ("017", 15),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("[]", []),
        ("[1, [2], {a = 3},]", [1, [2], {"a": 3}]),
        ("<<EOF\n  one\n\ntwo\nEOF\n", "  one\n\ntwo\n"),
        ("<<EOF\nEOF\n", ""),
        ("<<EOF\nEOFX\n EOF", "EOFX\n"),
        ("<<-EOF\n    one\n      two\n    EOF\n", "one\n  two\n"),
        ("<<-EOF\n    one\n\n    EOF\n", "    one\n\n"),
        ("<<-EOF\n  one\n    EOF\n", "  one\n"),
    ],
)
def test_values(text: str, value: object, tree: Tree) -> None:
    assert tree(parse(f"a = {text}")) == {"a": value}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# nothing", {}),
        ("/* a */ b = 1 // c\n# d", {"b": 1}),
        ("a = 1, b = 2 c = 3", {"a": 1, "b": 2, "c": 3}),
        ('a "x" { b = 1 }', {"a": [{"x": [{"b": 1}]}]}),
        ("a { x { b = 1 } }", {"a": [{"x": [{"b": 1}]}]}),
        ("a { b = 1 } a { b = 2 }", {"a": [{"b": 1}, {"b": 2}]}),
        ("a = { b = 1 }", {"a": [{"b": 1}]}),
        ('"a b" = 1', {"a b": 1}),
        ('{"a": {"b": [1, "x", true, 1.5, [2]]}}', {"a": [{"b": [1, "x", True, 1.5, [2]]}]}),
        ('  \n {"a": null, "b": "\\u00e9\\n"}', {"b": "\u00e9\n"}),
        ('{"a": [{"b": 1}, {"b": 2}]}', {"a": [{"b": 1}, {"b": 2}]}),
        ("{}", {}),
    ],
)
def test_structure(text: str, expected: object, tree: Tree) -> None:
    assert tree(parse(text)) == expected


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a", 1, 2, "must be followed by '=' or '{', not by the end of the file"),
        ("a =", 1, 4, "expected a value, not the end of the file"),
        ("a = b", 1, 5, "put quotes around 'b'"),
        ("a = 1h", 1, 5, "put quotes around a text or duration"),
        ("a = 09", 1, 5, "no octal number"),
        ("a = 1e999", 1, 5, "too large"),
        ("a = " + "1" * 65, 1, 5, "too long"),
        ("= 1", 1, 1, "expected a key, not '='"),
        ("a = 1\n\n  b = }", 3, 7, "expected a value, not '}'"),
        ("a {\n b = 1\n", 3, 1, "expected a key, not the end of the file"),
        ("a = 1 }", 1, 7, "expected a key, not '}'"),
        ('a "b" = {}', 1, 7, "a block with labels takes no '='"),
        ("a = [1 2]", 1, 8, "expected ',' or ']' in a list, not a number"),
        ("a = [,]", 1, 6, "expected a value, not ','"),
        ("a = [1", 1, 7, "in a list"),
        ('a = "open\nb = 1', 1, 5, "a string is not closed"),
        ('a = "${open"', 1, 5, "a string is not closed"),
        (r'a = "x\q"', 1, 7, "unknown escape '\\\\q'"),
        (r'a = "\x4"', 1, 6, "unknown escape"),
        (r'a = "\777"', 1, 6, "is no byte"),
        (r'a = "\ud800"', 1, 6, "is no character"),
        (r'a = "\xff"', 1, 6, "not UTF-8"),
        ("a = <<EOF\nx", 1, 5, "there is no line that is just EOF"),
        ("a = <EOF", 1, 5, "a heredoc begins with <<NAME"),
        ("a = <<\nx\n", 1, 5, "a heredoc begins with <<NAME"),
        ("a = 1\n/* open", 2, 1, "a comment is not closed"),
        ("a = 1 / 2", 1, 7, "unexpected character '/'"),
        ("a = 1\0", 1, 6, "unexpected character"),
        ("a = 1\nb = 2\na = 3", 3, 1, "'a' was set in line 1 already"),
        ("s {\n a = 1\n a = 2 }", 3, 2, "'a' was set in line 2 already"),
        ("{", 1, 2, "expected a key in quotes"),
        ('{"a" 1}', 1, 6, "expected ':' after key 'a'"),
        ('{"a": 1 "b": 2}', 1, 9, "expected ',' or '}'"),
        ('{"a": 1,}', 1, 9, "expected a key in quotes"),
        ('{"a": [1,]}', 1, 10, "expected a value"),
        ('{"a": [null]}', 1, 8, "null has no meaning in a list"),
        ('{"a": 01}', 1, 7, "expected a value"),
        ('{"a": 1e999}', 1, 7, "too large"),
        ('{"a": "\\q"}', 1, 7, "unknown escape"),
        ('{"a": "\\ud800"}', 1, 15, "half a surrogate pair"),
        ('{"a": "x\ny"}', 1, 7, "a string is closed on its line"),
        ('{"a": 1} b', 1, 10, "something follows"),
        ('{"a": 1,\n "a": 2}', 2, 2, "'a' was set in line 1 already"),
        ("{a = 1}", 1, 2, "expected a key in quotes"),
    ],
)
def test_errors_name_the_place(text: str, line: int, column: int, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "x.conf")
    error = caught.value
    assert words in str(error)
    assert (error.file, error.line, error.column) == ("x.conf", line, column)
    assert str(error).startswith(f"x.conf:{line}:{column}: ")


@pytest.mark.parametrize(
    ("first", "opening"),
    [("", "a {"), ("a = ", "["), ("", 'a "b" {'), ("", '{"a":'), ('{"a":', "["), ("a = ", "[{ b = ")],
)
def test_depth_is_bounded(first: str, opening: str) -> None:
    text = first + opening * (MAXIMUM_DEPTH * 50)
    with pytest.raises(ConfigurationError, match="inside each other"):
        parse(text)


def test_as_deep_as_allowed_is_read() -> None:
    parse("a = " + "[" * MAXIMUM_DEPTH + "]" * MAXIMUM_DEPTH)
    with pytest.raises(ConfigurationError, match="inside each other"):
        parse("a = " + "[" * (MAXIMUM_DEPTH + 1) + "]" * (MAXIMUM_DEPTH + 1))


def test_many_labels_are_depth_too() -> None:
    with pytest.raises(ConfigurationError, match="inside each other"):
        parse("a " + '"x" ' * 10_000 + "{}")


def test_a_large_file_is_refused_before_it_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "large.conf"
    with path.open("wb") as file:
        file.truncate(MAXIMUM_SIZE * 1000)
    with pytest.raises(ConfigurationError, match="larger than"):
        load(path)
    with pytest.raises(ConfigurationError, match="larger than"):
        parse(" " * (MAXIMUM_SIZE + 1))


@pytest.mark.parametrize(
    ("data", "words"), [(b"a = 1\nb = \xff", "2: the configuration file is not UTF-8"), (None, "cannot read")]
)
def test_unreadable_files(tmp_path: Path, data: bytes | None, words: str) -> None:
    path = tmp_path / "x.conf"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ConfigurationError, match=words):
        load(path)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_bytes(b"\xef\xbb\xbfa = 1")
    assert load(path).attributes[0].position.column == 1


def test_the_environment_is_expanded_only_where_asked(tmp_path: Path, tree: Tree) -> None:
    path = tmp_path / "x.conf"
    path.write_text('a = "${NAME}"')
    assert tree(load(path)) == {"a": "${NAME}"}
    assert tree(load(path, environ={"NAME": "value"})) == {"a": "value"}


def judge(text: str) -> None:
    """The text is HCL, or refused with a place inside it."""
    place = None
    try:
        parse(text)
    except ConfigurationError as error:
        place = (error.line, error.column)
    assert place is None or (1 <= (place[0] or 0) <= text.count("\n") + 1 and (place[1] or 0) >= 1)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    judge(text)


pieces = st.sampled_from(
    ["a", '"b"', "=", "{", "}", "[", "]", ",", "1", "true", "\n", "<<E\n", "E\n", "#", "/*", "*/", "${", '"', "\\", ":"]
)


@given(st.lists(pieces, max_size=30).map(" ".join))
def test_any_pieces_are_read_or_refused(text: str) -> None:
    judge(text)


scalars = st.one_of(
    st.booleans(),
    st.integers(-(1 << 40), 1 << 40),
    st.text(st.characters(exclude_characters="\\", exclude_categories=["Cs"]), max_size=12),
)
keys = st.text("abcdefgh_-.", min_size=1, max_size=6).filter(lambda key: key[0] not in "-." and key != "true")
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8,
)


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" if c in '"${}' or not c.isprintable() else c for c in value) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(_written(item) for item in value) + "]"
    assert isinstance(value, dict)
    return "{ " + " ".join(f"{key} = {_written(item)}" for key, item in value.items()) + " }"


def _blocks(value: object, *, in_list: bool = False) -> object:
    if isinstance(value, list):
        return [_blocks(item, in_list=True) for item in value]
    if isinstance(value, dict):
        body = {key: _blocks(item) for key, item in value.items()}
        return body if in_list else [body]
    return value


@given(document=st.dictionaries(keys, values, max_size=4))
def test_what_is_written_is_read(document: dict[str, Any], tree: Tree) -> None:
    text = "\n".join(f"{key} = {_written(value)}" for key, value in document.items())
    assert tree(parse(text)) == {key: _blocks(value) for key, value in document.items()}


@given(document=st.dictionaries(keys, values, max_size=4))
def test_the_json_form_says_the_same(document: dict[str, Any], tree: Tree) -> None:
    assert tree(parse(json.dumps(document))) == {key: _blocks(value) for key, value in document.items()}
