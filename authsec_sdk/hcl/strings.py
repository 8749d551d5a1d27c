"""Escapes, interpolations and indentation inside HCL 1 texts."""

import re

_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"'}
_NUMERIC = re.compile(r"([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})")
_SPECIAL = re.compile(r"\\|\$\{")
_MAXIMUM_OCTAL = 0xFF
_SURROGATES = range(0xD800, 0xE000)


class BadEscapeError(Exception):
    """A backslash with nothing known behind it, `offset` characters into the text."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


def unquote(text: str) -> str:
    r"""What a quoted text stands for: escapes resolved as in Go, `${…}` kept as it is with all inside it.

    `\x` and octal escapes name bytes, which together must be UTF-8.

    Raises:
        BadEscapeError: an escape is unknown or incomplete.
    """
    if "\\" not in text:
        return text
    result = bytearray()
    at = 0
    while match := _SPECIAL.search(text, at):
        result += text[at : match.start()].encode()
        if match.group() == "${":
            at = _interpolation_end(text, match.start())
            result += text[match.start() : at].encode()
        else:
            piece, at = _escape(text, match.start())
            result += piece
    result += text[at:].encode()
    try:
        return result.decode()
    except UnicodeDecodeError:
        raise BadEscapeError("the escaped bytes are not UTF-8", 0) from None


def unindent(content: str, indentation: str) -> str:
    """Take the closing anchor's indentation off every line, if every line (empty ones too) has it; else off none."""
    lines = content.split("\n")[:-1]
    if not all(line.startswith(indentation) for line in lines):
        return content
    return "".join(f"{line[len(indentation) :]}\n" for line in lines)


def _interpolation_end(text: str, at: int) -> int:
    braces = 0
    for index in range(at + 1, len(text)):
        if text[index] == "{":
            braces += 1
        elif text[index] == "}":
            braces -= 1
            if not braces:
                return index + 1
    return len(text)


def _escape(text: str, at: int) -> tuple[bytes, int]:
    simple = _SIMPLE.get(text[at + 1 : at + 2])
    if simple is not None:
        return simple.encode(), at + 2
    match = _NUMERIC.match(text, at + 1)
    if not match:
        raise BadEscapeError(f"unknown escape {text[at : at + 2]!r}; write a backslash as \\\\", at)
    octal, byte, short, long = match.groups()
    if octal or byte:
        number = int(octal, 8) if octal else int(byte, 16)
        if number > _MAXIMUM_OCTAL:
            raise BadEscapeError(f"{match.group()!r} is no byte", at)
        return bytes([number]), match.end()
    number = int(short or long, 16)
    if number > 0x10FFFF or number in _SURROGATES:
        raise BadEscapeError(f"{match.group()!r} is no character", at)
    return chr(number).encode(), match.end()
