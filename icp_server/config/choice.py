"""A setting that is one of a few words, in any case."""

from __future__ import annotations

from authsec_sdk.hcl import Fields


def choice(fields: Fields, key: str, known: tuple[str, ...], default: str) -> str:
    """The word as it is known; the default where nothing is set.

    Raises:
        ConfigurationError: it is none of them.
    """
    text = fields.text(key)
    if not text:
        return default
    for name in known:
        if name.casefold() == text.casefold():
            return name
    raise fields.error(f"{key!r} in {fields.where} is {text!r}; it must be one of {', '.join(known)}", key)
