from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.hcl.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0", timedelta()),
        ("0s", timedelta()),
        ("-0", timedelta()),
        ("5s", timedelta(seconds=5)),
        ("1h30m", timedelta(minutes=90)),
        ("1m1h", timedelta(minutes=61)),
        ("1.5s", timedelta(milliseconds=1500)),
        (".5m", timedelta(seconds=30)),
        ("1.s", timedelta(seconds=1)),
        ("250ms", timedelta(milliseconds=250)),
        ("7us", timedelta(microseconds=7)),
        ("7µs", timedelta(microseconds=7)),
        ("999ns", timedelta()),
        ("+2s", timedelta(seconds=2)),
        ("-2s", timedelta(seconds=-2)),
    ],
)
def test_right(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text", ["", "+", "-", "5", "s", "5 s", "5S", "1d", "1h 30m", "--1s", "1.5", ".s", "٣s", "9" * 20 + "h", "1s" * 40]
)
def test_wrong(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(hours=1), "1h0m0s"),
        (timedelta(minutes=90), "1h30m0s"),
        (timedelta(seconds=90), "1m30s"),
        (timedelta(seconds=1.5), "1.5s"),
        (timedelta(milliseconds=250), "250ms"),
        (timedelta(microseconds=1500), "1.5ms"),
        (timedelta(microseconds=7), "7µs"),
        (timedelta(seconds=-2), "-2s"),
        (timedelta(days=2), "48h0m0s"),
    ],
)
def test_format(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text


@given(st.timedeltas(min_value=timedelta(days=-10000), max_value=timedelta(days=10000)))
def test_what_is_written_is_read(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration
