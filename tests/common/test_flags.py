from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icp_common.flags import FlagSet, HelpRequested, UsageError


@pytest.fixture
def flags() -> FlagSet:
    return FlagSet("entry show", summary="Shows entries.", examples=("icp-server entry show -entryID 5f2c",))


@pytest.mark.parametrize("arguments", [["-x", "v"], ["--x", "v"], ["-x=v"], ["--x=v"]])
def test_a_value_follows_or_is_joined(flags: FlagSet, arguments: list[str]) -> None:
    x = flags.string("x", "")
    assert flags.parse(arguments) == ()
    assert (x.value, x.given) == ("v", True)


def test_what_is_not_given_is_the_default(flags: FlagSet) -> None:
    x, y = flags.string("x", "", "default"), flags.boolean("y", "", default=True)
    flags.parse([])
    assert (x.value, x.given, y.value) == ("default", False, True)


def test_the_last_one_counts_and_lists_gather(flags: FlagSet) -> None:
    x, many = flags.string("x", ""), flags.strings("many", "")
    flags.parse(["-x", "1", "-many", "a,b", "-x=2", "-many=c"])
    assert (x.value, many.value) == ("2", ("a,b", "c"))


def test_a_boolean_takes_no_following_value(flags: FlagSet) -> None:
    x = flags.boolean("x", "")
    assert flags.parse(["-x", "false"]) == ("false",)
    assert x.value is True


@pytest.mark.parametrize(("text", "value"), [("1", True), ("T", True), ("true", True), ("0", False), ("FALSE", False)])
def test_a_boolean_takes_a_joined_value(flags: FlagSet, text: str, value: bool) -> None:
    x = flags.boolean("x", "", default=not value)
    flags.parse([f"-x={text}"])
    assert x.value is value


def test_values_may_look_like_flags_or_be_empty(flags: FlagSet) -> None:
    x, y = flags.string("x", ""), flags.string("y", "", "d")
    flags.parse(["-x", "-y", "-y="])
    assert (x.value, y.value, y.given) == ("-y", "", True)


@pytest.mark.parametrize(
    ("arguments", "rest"),
    [
        (["-x", "1", "a", "-x", "2"], ("a", "-x", "2")),
        (["--", "-x", "2"], ("-x", "2")),
        (["-", "b"], ("-", "b")),
        (["", "b"], ("", "b")),
        (["a", "--"], ("a", "--")),
    ],
)
def test_flags_end_at_the_first_argument(flags: FlagSet, arguments: list[str], rest: tuple[str, ...]) -> None:
    flags.string("x", "")
    assert flags.parse(arguments) == rest


@pytest.mark.parametrize(
    ("text", "value"), [("7", 7), ("-7", -7), ("+7", 7), ("0x1f", 31), ("017", 15), ("0b11", 3), ("1_000", 1000)]
)
def test_integers(flags: FlagSet, text: str, value: int) -> None:
    n = flags.integer("n", "")
    flags.parse(["-n", text])
    assert n.value == value


def only_json(text: str) -> str:
    if text != "json":
        raise ValueError("nothing but json")
    return text


def test_other_kinds(flags: FlagSet) -> None:
    ttl = flags.duration("ttl", "")
    custom = flags.custom("custom", "", 0, lambda text: len(text))
    flags.parse(["-ttl", "1h", "-custom", "abc"])
    assert (ttl.value, custom.value) == (timedelta(hours=1), 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-foo"], "flag provided but not defined: -foo"),
        (["--foo=1"], "flag provided but not defined: -foo"),
        (["-s"], "flag needs an argument: -s"),
        (["-=x"], "bad flag syntax: -=x"),
        (["---x"], "bad flag syntax: ---x"),
        (["--=x"], "bad flag syntax: --=x"),
        (["-n", "abc"], 'invalid value "abc" for flag -n: parse error'),
        (["-n", ""], 'invalid value "" for flag -n: parse error'),
        (["-n", " 1"], 'invalid value " 1" for flag -n: parse error'),
        (["-n", "1" * 100], "for flag -n: parse error"),
        (["-n", "9223372036854775808"], 'invalid value "9223372036854775808" for flag -n: value out of range'),
        (["-b=maybe"], 'invalid boolean value "maybe" for -b: parse error'),
        (["-d", "5"], 'invalid value "5" for flag -d: parse error'),
        (["-o", "xml"], 'invalid value "xml" for flag -o: nothing but json'),
        (["-n", 'a"\n'], 'invalid value "a\\"\\n" for flag -n: parse error'),
    ],
)
def test_wrong_command_lines(flags: FlagSet, arguments: list[str], message: str) -> None:
    flags.string("s", "")
    flags.integer("n", "")
    flags.boolean("b", "")
    flags.duration("d", "")
    flags.custom("o", "", "json", only_json)
    with pytest.raises(UsageError) as caught:
        flags.parse(arguments)
    assert message in str(caught.value)
    assert caught.value.usage == flags.usage()


@pytest.mark.parametrize("argument", ["-h", "-help", "--help"])
def test_help_is_asked_for(flags: FlagSet, argument: str) -> None:
    with pytest.raises(HelpRequested) as caught:
        flags.parse([argument])
    assert caught.value.usage == flags.usage()


def test_usage_has_the_form_go_prints(flags: FlagSet) -> None:
    flags.string("socketPath", "Path to the socket", "/tmp/api.sock")
    flags.boolean("admin", "If set, admin")
    flags.strings("selector", "A selector")
    flags.duration("ttl", "How long", timedelta(minutes=5))
    assert flags.usage() == (
        "Shows entries.\n\n"
        "Usage of entry show:\n"
        "  -admin\n    \tIf set, admin\n"
        "  -selector value\n    \tA selector\n"
        '  -socketPath string\n    \tPath to the socket (default "/tmp/api.sock")\n'
        "  -ttl duration\n    \tHow long (default 5m0s)\n"
        "\nExamples:\n  icp-server entry show -entryID 5f2c\n"
    )


@given(st.lists(st.text(max_size=8), max_size=6))
def test_any_command_line_is_read_or_refused(arguments: list[str]) -> None:
    flags = FlagSet("x")
    flags.integer("n", "")
    flags.boolean("b", "")
    try:
        rest = flags.parse(arguments)
    except (UsageError, HelpRequested):
        return
    assert tuple(arguments[len(arguments) - len(rest) :]) == rest
