"""Which DNS names an entry may put into certificates, and which of them a verifier would confuse."""

import re
import unicodedata
from collections.abc import Iterable

from authsec_sdk.errors import CallerError

_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z")
_ACE_PREFIX = "xn--"
_MAXIMUM_LENGTH = 253


class InvalidDNSNameError(CallerError, ValueError):
    """The text is not a DNS name a certificate should carry."""


def check_dns_name(name: str) -> None:
    """Accept ASCII host names (underscores too), optionally with `*` as the whole first label.

    Stricter than SPIRE, which also takes spaces and punctuation inside labels: those would reach a certificate that
    verifiers then read differently. Internationalized names come in their ASCII form (`xn--…`).

    Raises:
        InvalidDNSNameError: with the words a SPIRE server answers where it refuses too.
    """
    if not name.isascii():
        raise InvalidDNSNameError("name must be ascii")
    if name.count("*") > 1:
        raise InvalidDNSNameError("too many wildcards")
    if "*" in name:
        if not name.startswith("*."):
            raise InvalidDNSNameError("wildcard must be first label")
        name = name[2:]
    if not name.strip():
        raise InvalidDNSNameError("empty or only whitespace")
    if name.endswith("."):
        raise InvalidDNSNameError("domain ends with dot")
    if len(name) > _MAXIMUM_LENGTH:
        raise InvalidDNSNameError(f'idna error\nidna: invalid label "{name}"')
    for label in name.split("."):
        if not _is_label(label):
            raise InvalidDNSNameError(f'idna error\nidna: invalid label "{label}"')


def check_no_wildcard_overlap(names: Iterable[str]) -> None:
    """Refuse a name that a wildcard of the same list already covers: the leaf would say the same thing twice.

    Raises:
        InvalidDNSNameError: names the covered one.
    """
    known = set(names)
    for name in sorted(known):
        _, _, rest = name.partition(".")
        if not name.startswith("*") and f"*.{rest}" in known:
            raise InvalidDNSNameError(
                f'name "{name}" overlaps with an existing wildcard name in the list: wildcard overlap'
            )


def _is_label(label: str) -> bool:
    if not _LABEL.match(label):
        return False
    if label[2:4] != "--":
        return True
    return label.startswith(_ACE_PREFIX) and _is_ace(label)


def _is_ace(label: str) -> bool:
    # What decodes to ASCII alone, or encodes back to something else, is another name in disguise.
    try:
        decoded = label[len(_ACE_PREFIX) :].encode("ascii").decode("punycode")
        encoded = decoded.encode("punycode").decode("ascii")
    except (UnicodeError, OverflowError):
        return False
    plain = decoded.isprintable() and decoded == unicodedata.normalize("NFC", decoded).lower()
    return plain and not decoded.isascii() and _ACE_PREFIX + encoded == label
