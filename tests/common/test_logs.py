import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from authsec_sdk.errors import ConfigurationError
from icp_common import logs


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers, root.level = handlers, level


def lines(
    log_format: str, level: str = "DEBUG", *, source_location: bool = False
) -> tuple[io.StringIO, logging.Logger]:
    stream = io.StringIO()
    logs.configure(level=level, log_format=log_format, stream=stream, source_location=source_location)
    return stream, logging.getLogger("tests.log")


def test_text_lines_say_time_level_message_and_logger() -> None:
    stream, log = lines("text")
    log.info("Starting agent APIs; path=%s", "/run/x")
    line = stream.getvalue()
    assert 'level=info msg="Starting agent APIs; path=/run/x" logger=tests.log\n' in line
    assert line.startswith("time=2")
    assert line.split(" ")[0].endswith("Z")


def test_a_message_cannot_forge_a_line() -> None:
    for log_format in ("text", "json"):
        stream, log = lines(log_format)
        log.warning("user said %s", 'x"\ntime=1 level=info msg="all is well"\r\u2028\u0085\x1b[31m\ud800')
        text = stream.getvalue()
        assert text.count("\n") == 1
        assert len(text.splitlines()) == 1
        assert "\x1b" not in text


def test_json_lines_are_json() -> None:
    stream, log = lines("json", source_location=True)
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("failed")
    record = json.loads(stream.getvalue())
    assert (record["level"], record["msg"], record["logger"]) == ("error", "failed", "tests.log")
    assert "ValueError: why" in record["error"]
    assert record["file"].startswith("test_logs.py:")
    assert record["func"] == "test_json_lines_are_json"


@pytest.mark.parametrize(
    ("level", "shown"),
    [("ERROR", 1), ("warn", 2), ("Warning", 2), ("info", 3), ("DEBUG", 4), ("trace", 5), ("panic", 0), ("fatal", 0)],
)
def test_levels_are_spires(level: str, shown: int) -> None:
    stream, log = lines("text", level)
    log.error("1")
    log.warning("2")
    log.info("3")
    log.debug("4")
    log.log(logs.TRACE, "5")
    assert stream.getvalue().count("\n") == shown


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"level": "loud"}, "unknown log level 'loud'; use one of panic, fatal, error, warn"),
        ({"log_format": "xml"}, "unknown log format 'xml'"),
        ({"file": "/proc/none/x"}, "cannot write the log file"),
    ],
)
def test_wrong_settings(options: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        logs.configure(**options)  # type: ignore[arg-type]


def test_a_log_file_that_was_moved_away_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logs.configure(file=str(path))
    log = logging.getLogger("tests.log")
    log.info("one")
    path.rename(tmp_path / "old")
    log.info("two")
    assert "one" in (tmp_path / "old").read_text()
    assert "two" in path.read_text()
    assert "one" not in path.read_text()
