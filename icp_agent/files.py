"""Reads small files that an operator names, without trusting that they are what they should be."""

import os
from pathlib import Path

from authsec_sdk.errors import ConfigurationError


def read_bounded(path: Path, maximum: int, what: str) -> bytes:
    """The content of a file of at most `maximum` bytes.

    Raises:
        FileNotFoundError: it is not there.
        ConfigurationError: it cannot be read, or is larger; `what` it is stands in the text.
    """
    try:
        # Not blocking: a FIFO in the file's place must not hold up the agent for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            data = file.read(maximum + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigurationError(f"unable to read {what} {str(path)!r}: {error.strerror}") from error
    if len(data) > maximum:
        raise ConfigurationError(f"{what} {str(path)!r} is larger than {maximum} bytes")
    return data
