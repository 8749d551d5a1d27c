"""Counters and gauges of a daemon, in the process alone; an exporter reads `snapshot`."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

MAXIMUM_SERIES = 1000
"""Label sets of one instrument; what comes beyond is counted together under OVERFLOW."""

Labels: TypeAlias = tuple[tuple[str, str], ...]
OVERFLOW: Labels = (("overflow", "true"),)


@dataclass(frozen=True, slots=True)
class Series:
    """One value: of which instrument, with which labels."""

    name: str
    labels: Labels = ()

    def __str__(self) -> str:
        if not self.labels:
            return self.name
        inside = ",".join(f'{key}="{_escaped(value)}"' for key, value in self.labels)
        return f"{self.name}{{{inside}}}"


class Counter:
    """Counts what happened; never goes down. Made by `Telemetry.counter`; safe in threads."""

    def __init__(self, name: str, usage: str) -> None:
        self.name = name
        self.usage = usage
        self._values: dict[Labels, float] = {}
        self._lock = threading.Lock()

    def increment(self, by: float = 1, /, **labels: str) -> None:
        """Count `by` more under these labels.

        Raises:
            ValueError: `by` is negative.
        """
        if by < 0:
            raise ValueError("a counter never goes down")
        with self._lock:
            key = _bounded(self._values, labels)
            self._values[key] = self._values.get(key, 0) + by

    def value(self, **labels: str) -> float:
        """The count under exactly these labels."""
        with self._lock:
            return self._values.get(_key(labels), 0)

    def series(self) -> dict[Series, float]:
        """Every count there is."""
        with self._lock:
            return {Series(self.name, labels): value for labels, value in self._values.items()}


class Gauge:
    """A value as it is now, set or asked for. Made by `Telemetry.gauge`; safe in threads."""

    def __init__(self, name: str, usage: str) -> None:
        self.name = name
        self.usage = usage
        self._values: dict[Labels, float] = {}
        self._source: Callable[[], float] | None = None
        self._lock = threading.Lock()

    def set(self, value: float, **labels: str) -> None:
        """Put the value under these labels."""
        with self._lock:
            self._values[_bounded(self._values, labels)] = value

    def follow(self, source: Callable[[], float]) -> None:
        """Ask `source` (quick, callable from any thread) whenever the gauge is read."""
        self._source = source

    def series(self) -> dict[Series, float]:
        """Every value there is."""
        with self._lock:
            found = {Series(self.name, labels): value for labels, value in self._values.items()}
        if self._source is not None:
            found[Series(self.name)] = self._source()
        return found


class Telemetry:
    """The instruments of a daemon by name. Ask for one wherever it is needed: the same name gives the same one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._instruments: dict[str, Counter | Gauge] = {}

    def counter(self, name: str, usage: str) -> Counter:
        """The counter of this name.

        Raises:
            ValueError: the name is a gauge's.
        """
        instrument = self._instrument(name, lambda: Counter(name, usage))
        if not isinstance(instrument, Counter):
            raise ValueError(f"{name} is a gauge")  # noqa: TRY004 - a wrong name, not a wrong type
        return instrument

    def gauge(self, name: str, usage: str) -> Gauge:
        """The gauge of this name.

        Raises:
            ValueError: the name is a counter's.
        """
        instrument = self._instrument(name, lambda: Gauge(name, usage))
        if not isinstance(instrument, Gauge):
            raise ValueError(f"{name} is a counter")  # noqa: TRY004 - a wrong name, not a wrong type
        return instrument

    def snapshot(self) -> Mapping[Series, float]:
        """All values; each instrument's are of one moment."""
        with self._lock:
            instruments = list(self._instruments.values())
        return MappingProxyType({key: value for each in instruments for key, value in each.series().items()})

    def _instrument(self, name: str, make: Callable[[], Counter | Gauge]) -> Counter | Gauge:
        with self._lock:
            if name not in self._instruments:
                self._instruments[name] = make()
            return self._instruments[name]


def _key(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def _bounded(values: Mapping[Labels, float], labels: Mapping[str, str]) -> Labels:
    key = _key(labels)
    return key if key in values or len(values) < MAXIMUM_SERIES else OVERFLOW


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
