"""How a daemon logs: levels and formats as SPIRE's configuration names them, one line an event, nothing forged."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

from authsec_sdk.errors import ConfigurationError

TRACE = 5
"""Below DEBUG."""

_LEVELS = {
    "panic": logging.CRITICAL,
    "fatal": logging.CRITICAL,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}
_NAMES = {
    logging.CRITICAL: "fatal",
    logging.ERROR: "error",
    logging.WARNING: "warning",
    logging.INFO: "info",
    logging.DEBUG: "debug",
    TRACE: "trace",
}


def parse_level(name: str) -> int:
    """The level SPIRE calls so, in any case.

    Raises:
        ConfigurationError: there is none; the text names those there are.
    """
    try:
        return _LEVELS[name.lower()]
    except KeyError:
        raise ConfigurationError(f"unknown log level {name!r}; use one of {', '.join(_LEVELS)}") from None


def configure(
    *,
    level: str = "INFO",
    log_format: str = "text",
    file: str | None = None,
    source_location: bool = False,
    stream: TextIO | None = None,
) -> None:
    """Send every log record of the process to the file (reopened when it was moved away) or to stderr.

    Replaces what was configured before.

    Raises:
        ConfigurationError: an unknown level or format, or the file cannot be written.
    """
    parse_level(level)
    formatters = {"text": TextFormatter, "json": JSONFormatter}
    if log_format.lower() not in formatters:
        raise ConfigurationError(f"unknown log format {log_format!r}; use text or json")
    try:
        handler = _file_handler(file) if file else logging.StreamHandler(stream or sys.stderr)
    except OSError as error:
        raise ConfigurationError(f"cannot write the log file {file}: {error.strerror}") from error
    handler.setFormatter(formatters[log_format.lower()](source_location=source_location))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    logging.addLevelName(TRACE, "TRACE")
    set_level(level)


def set_level(level: str) -> None:
    """Log from this level on, whatever was configured.

    Raises:
        ConfigurationError: there is no such level.
    """
    number = parse_level(level)
    logging.getLogger().setLevel(number)
    # What libraries below us say at DEBUG is theirs, not the daemon's.
    for chatty in ("asyncio", "hpack", "aiosqlite"):
        logging.getLogger(chatty).setLevel(max(number, logging.INFO))


def _file_handler(file: str) -> logging.Handler:
    from logging.handlers import WatchedFileHandler  # weighs 600 KiB that a log to stderr need not carry

    return WatchedFileHandler(file, encoding="utf-8")


class _Formatter(logging.Formatter):
    def __init__(self, *, source_location: bool) -> None:
        super().__init__()
        self._source_location = source_location

    def fields(self, record: logging.LogRecord) -> dict[str, str]:
        """What a line says, in its order."""
        time = datetime.fromtimestamp(record.created, UTC)
        fields = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": _NAMES.get(record.levelno, record.levelname.lower()),
            "msg": record.getMessage(),
            "logger": record.name,
        }
        if self._source_location:
            fields["file"] = f"{record.filename}:{record.lineno}"
            fields["func"] = record.funcName or ""
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return fields


class TextFormatter(_Formatter):
    """`time="…" level=info msg="…" logger=…`, always one line: what could end it or a value is escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        return " ".join(f"{key}={_word(value)}" for key, value in self.fields(record).items())


class JSONFormatter(_Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        return json.dumps(self.fields(record))


def _word(value: str) -> str:
    if value and value.isascii() and all(character.isalnum() or character in "-._/@^+:" for character in value):
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in quoted)
