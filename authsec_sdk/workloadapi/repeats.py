"""Which of many like errors to log: each distinct one once, and then at every power of ten; pure."""

import re

__all__ = ["Repeats"]

_MAX_KNOWN = 32
_POWER_OF_TEN = re.compile(r"10*")


class Repeats:
    """Counts errors by their text until things are well again. Errors that take turns are each counted."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self.total = 0

    def note(self, text: str) -> int | None:
        """Count one more, and return how often it has been there if that is worth a line in a log, else None."""
        self.total += 1
        if text not in self._counts and len(self._counts) >= _MAX_KNOWN:
            text = ""  # texts which differ each time, such as with a clock in them, share one count
        count = self._counts[text] = self._counts.get(text, 0) + 1
        return count if _POWER_OF_TEN.fullmatch(str(count)) else None

    def clear(self) -> int:
        """Forget everything, for things are well, and return how many errors there were."""
        total, self.total = self.total, 0
        self._counts.clear()
        return total
