"""Expands `$NAME` and `${NAME}` in a configuration's text, as `-expandEnv` of SPIRE does (Go's `os.Expand`)."""

import re
from collections.abc import Mapping

_REFERENCE = re.compile(
    r"\$(?:\{(?P<special_braced>[*#$@!?\-0-9])\}"
    r"|\{(?P<braced>[^}]+)\}"
    r"|(?P<special>[*#$@!?\-0-9])"
    r"|(?P<plain>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<bad>\{\}|\{))"
)


def expand_environment(text: str, environ: Mapping[str, str]) -> str:
    """Replace every reference by its variable; an unset one by nothing, `$$` by a dollar.

    A dollar with no name behind it stays. It happens before parsing, so a value may hold quotes and lines: who sets
    the environment writes the configuration.
    """

    def value(match: re.Match[str]) -> str:
        name = match["special_braced"] or match["braced"] or match["special"] or match["plain"] or ""
        return "$" if name == "$" else environ.get(name, "")

    return _REFERENCE.sub(value, text)
