"""When to try again: exponential, capped, with full jitter."""

import random
from collections.abc import Callable

BASE = 0.1
FACTOR = 1.6


def full_jitter(failures: int, cap: float, *, uniform: Callable[[float, float], float] = random.uniform) -> float:
    """Seconds to wait after `failures` failures in a row: anything from 0 to the exponential bound, at most `cap`.

    The whole range and not its upper end, so that the clients of a server that returns do not come in waves.
    """
    if failures <= 0 or cap <= 0:
        return 0.0
    # Beyond 64 doublings the bound has long met any cap; the power would only overflow.
    return uniform(0.0, min(cap, BASE * FACTOR ** min(failures - 1, 64)))
