"""The JSON of bundles, from other organizations: refused with the error of bundles."""

from __future__ import annotations

from authsec_sdk.errors import InvalidBundleError
from authsec_sdk.jose.strict_json import UnsafeJSONError, load_strict_object

__all__ = ["load_object"]


def load_object(data: bytes, maximum: int) -> dict[str, object]:
    """Parse a JSON object of at most `maximum` bytes.

    Raises:
        InvalidBundleError: it is longer, or `load_strict_object` refuses it.
    """
    try:
        return load_strict_object(data, max_bytes=maximum)
    except UnsafeJSONError as error:
        raise InvalidBundleError(f"it {error}") from error
