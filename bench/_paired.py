"""Compare two ways of doing a thing on a noisy machine: interleaved rounds, and an interval for the median of ratios.

A round measures both, one right after the other and in turn first, so that what disturbs the machine disturbs both.
The claim is judged by the whole 95 % interval: if it reaches across the claim, the run has not decided anything.
"""

from __future__ import annotations

import gc
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bench import _results

Verdict = Literal["met", "NOT met", "undecided"]

_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the rounds of one comparison gave: `ours` and `theirs` in the same unit, round by round."""

    name: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ours ÷ theirs, round by round."""
        return tuple(a / b for a, b in zip(self.ours, self.theirs, strict=True))

    @property
    def ratio(self) -> float:
        """The median ratio."""
        return statistics.median(self.ratios)

    def interval(self) -> tuple[float, float]:
        """Return the 95 % bootstrap interval of the median ratio; the same rounds give the same interval."""
        return bootstrap(self.ratios)

    def verdict(self, *, at_most: float | None = None, at_least: float | None = None) -> Verdict:
        """Judge a claim by the interval."""
        low, high = self.interval()
        if (at_most is not None and low > at_most) or (at_least is not None and high < at_least):
            return "NOT met"
        if (at_most is not None and high > at_most) or (at_least is not None and low < at_least):
            return "undecided"
        return "met"

    def report(self, *, at_most: float | None = None, at_least: float | None = None, unit: str = "") -> bool:
        """Print it, with the verdict on the claim if there is one; return False only where the claim is not met."""
        low, high = self.interval()
        ours, theirs = statistics.median(self.ours), statistics.median(self.theirs)
        sides = f"{ours:.4g} ÷ {theirs:.4g}{unit and ' '}{unit}"
        ratio = f"{self.ratio:.3f} [{low:.3f}, {high:.3f}]"
        text = f"{self.name}: {sides} = {ratio} over {len(self.ours)} rounds"
        if at_most is None and at_least is None:
            print(text)
            _results.note(_results.Finding(self.name, sides, ratio))
            return True
        verdict = self.verdict(at_most=at_most, at_least=at_least)
        claim = f"≤ {at_most:g}" if at_most is not None else f"≥ {at_least:g}"
        print(f"{text} (claim {claim}: {verdict})")
        _results.note(_results.Finding(self.name, sides, ratio, claim, verdict))
        return verdict != "NOT met"


def compare(name: str, ours: Callable[[], float], theirs: Callable[[], float], *, rounds: int) -> Comparison:
    """Run both in turn; each returns its measure of one round. A first round of each warms up and is dropped."""
    ours(), theirs()
    measured: list[tuple[float, float]] = []
    for number in range(rounds):
        gc.collect()
        if number % 2:
            a = ours()
            b = theirs()
        else:
            b = theirs()
            a = ours()
        measured.append((a, b))
    return Comparison(name, tuple(a for a, _ in measured), tuple(b for _, b in measured))


def bootstrap(ratios: Sequence[float], resamples: int = _RESAMPLES) -> tuple[float, float]:
    """Return the interval in which the median lies in 95 of 100 resamplings of the rounds."""
    dice = random.Random(0)
    medians = sorted(statistics.median(dice.choices(ratios, k=len(ratios))) for _ in range(resamples))
    return medians[int(resamples * 0.025)], medians[int(resamples * 0.975) - 1]
