"""Key-exchange groups: OpenSSL's own choice unless someone chooses, as far as this Python lets them.

OpenSSL 3.5 and later offer hybrid groups with ML-KEM first by default; nothing is to be done for that. Python has
`SSLContext.set_groups` from 3.15 on. Before, `set_ecdh_curve` names one classical group, for TLS 1.3 as well.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final

from authsec_sdk.tls.errors import ContextSettingError

__all__ = ["apply_groups"]


_choose: Final[Callable[[ssl.SSLContext, str], None] | None] = getattr(ssl.SSLContext, "set_groups", None)


def apply_groups(
    context: ssl.SSLContext, groups: str, *, choose: Callable[[ssl.SSLContext, str], None] | None = _choose
) -> None:
    """Offer and accept these groups alone on a context: names with colons between them, the preferred one first.

    Raises:
        ContextSettingError: this Python cannot set that, or its OpenSSL does not know a name.
    """
    try:
        if choose is not None:
            choose(context, groups)
        elif ":" in groups:
            raise ContextSettingError(
                f"a list of key-exchange groups ({groups}) needs Python 3.15; before, one group can be chosen"
            )
        else:
            ssl.SSLContext.set_ecdh_curve(context, groups)
    except (ValueError, ssl.SSLError) as error:
        if isinstance(error, ContextSettingError):
            raise
        raise ContextSettingError(
            f"{ssl.OPENSSL_VERSION} as this Python can reach it does not take the key-exchange group {groups!r}"
            + ("" if choose is not None else "; hybrid groups by name need Python 3.15, by default OpenSSL 3.5")
        ) from error
