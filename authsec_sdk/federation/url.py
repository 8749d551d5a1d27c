"""Which URLs a bundle endpoint may have (SPIFFE Federation 5.2.1.1 and 5.2.2.1); pure."""

import re
from urllib.parse import SplitResult, urlsplit

from authsec_sdk.errors import InvalidEndpointError

__all__ = ["check_url"]

_PRINTABLE = re.compile(r"[\x21-\x7e]+")


def check_url(url: str) -> SplitResult:
    """Return the parts of a URL that is https, names a host and holds no user information. Its fragment is dropped.

    Raises:
        InvalidEndpointError: it is not, or it holds blanks, control characters, or letters outside ASCII.
    """
    if not isinstance(url, str) or not _PRINTABLE.fullmatch(url):
        raise InvalidEndpointError(f"{url!r} is no URL: write host names in punycode, and the rest percent-encoded")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidEndpointError(f"{url!r} is no URL: {error}") from error
    if parts.scheme != "https":
        raise InvalidEndpointError(f"{url!r} is not https: bundles decide whom to trust")
    if "@" in parts.netloc:
        raise InvalidEndpointError("the URL of a bundle endpoint holds no user information, and this one does")
    if not parts.hostname or port == 0:
        raise InvalidEndpointError(f"{url!r} names no host")
    return parts._replace(fragment="")
