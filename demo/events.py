"""What a workload of the demo tells the one who runs it: one JSON object a line on standard output."""

import json
import sys


def emit(kind: str, **fields: object) -> None:
    """Print one event; fields are plain values, an identity is told by its SPIFFE ID, nothing secret goes here."""
    sys.stdout.write(json.dumps({"event": kind, **fields}) + "\n")
    sys.stdout.flush()
