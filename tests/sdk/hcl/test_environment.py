import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.hcl import expand_environment

ENVIRON = {"A": "1", "LONG_name9": "two", "a-b": "dash", "$": "never"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$A", "1"),
        ("${A}", "1"),
        ("x$A.y", "x1.y"),
        ("$LONG_name9!", "two!"),
        ("${a-b}", "dash"),
        ("$a-b", "-b"),
        ("$UNSET|", "|"),
        ("${UNSET}|", "|"),
        ("$$", "$"),
        ("$$A", "$A"),
        ("${$}", "$"),
        ("$", "$"),
        ("100$ ", "100$ "),
        ("$1x", "x"),
        ("${}", ""),
        ("${open", "open"),
    ],
)
def test_references(text: str, expanded: str) -> None:
    assert expand_environment(text, ENVIRON) == expanded


@given(st.text(st.characters(exclude_characters="$")))
def test_text_without_dollars_stays(text: str) -> None:
    assert expand_environment(text, ENVIRON) == text
