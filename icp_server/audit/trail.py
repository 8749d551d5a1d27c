"""The audit trail: one line in the log for each call, or for each item of a batch, with who, what and the outcome.

Switched on by `audit_log_enabled`. Names of fields are SPIRE's (its `doc/auditlog.md`), so that filters written for
them keep working. What stands in a line was said by callers, so every value that is not plain is quoted.
"""

import json
import logging
import re
from collections.abc import Mapping

logger = logging.getLogger(__name__)

Fields = Mapping[str, object]

_PLAIN = re.compile(r"[A-Za-z0-9\-._/@^+]+", re.ASCII)


def render(fields: Fields) -> str:
    """Render fields as `key=value` pairs, sorted by key; a value with anything unusual in it is quoted."""
    return " ".join(f"{key}={_value(fields[key])}" for key in sorted(fields))


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return text if not text or _PLAIN.fullmatch(text) else json.dumps(text)


class AuditTrail:
    """Writes audit lines, or nothing when the operator did not ask for them."""

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled

    def record(self, caller: Fields, request: Fields, *, status: str = "", message: str = "") -> None:
        """Write one line. `status` is the gRPC status name of a call or item that failed, '' for success."""
        if not self.enabled:
            return
        outcome: dict[str, object] = {"type": "audit", "status": "error" if status else "success"}
        if status:
            outcome |= {"status_code": status, "status_message": message}
        logger.info("API accessed %s", render({**request, **caller, **outcome}))
