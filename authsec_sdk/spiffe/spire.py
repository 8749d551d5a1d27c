"""Where authsec-sdk 4.x had `QuickStartSVID` and `WorkloadSVID`: found where it is now, when it is asked for."""

from typing import Any

from authsec_sdk import spiffe

_NAMES = ("QuickStartSVID", "WorkloadAPIClient", "WorkloadSVID")


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(spiffe, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
