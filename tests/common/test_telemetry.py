import threading

import pytest

from icp_common.telemetry import MAXIMUM_SERIES, OVERFLOW, Series, Telemetry


def test_counters_count_by_label() -> None:
    telemetry = Telemetry()
    calls = telemetry.counter("calls", "Calls")
    calls.increment()
    calls.increment(2, method="a", status="ok")
    calls.increment(status="ok", method="a")
    assert calls.value() == 1
    assert calls.value(method="a", status="ok") == 3
    assert calls.value(method="b") == 0
    assert telemetry.snapshot() == {
        Series("calls"): 1,
        Series("calls", (("method", "a"), ("status", "ok"))): 3,
    }


def test_gauges_are_set_or_asked() -> None:
    telemetry = Telemetry()
    telemetry.gauge("set", "").set(4, a="b")
    telemetry.gauge("asked", "").follow(lambda: 7)
    assert telemetry.snapshot() == {Series("set", (("a", "b"),)): 4, Series("asked"): 7}


def test_one_name_is_one_instrument_of_one_kind() -> None:
    telemetry = Telemetry()
    assert telemetry.counter("c", "") is telemetry.counter("c", "")
    assert telemetry.gauge("g", "") is telemetry.gauge("g", "")
    with pytest.raises(ValueError, match="is a counter"):
        telemetry.gauge("c", "")
    with pytest.raises(ValueError, match="is a gauge"):
        telemetry.counter("g", "")


def test_a_counter_never_goes_down() -> None:
    with pytest.raises(ValueError, match="never goes down"):
        Telemetry().counter("c", "").increment(-1)


def test_hostile_labels_cannot_fill_memory() -> None:
    counter = Telemetry().counter("c", "")
    for number in range(MAXIMUM_SERIES * 3):
        counter.increment(path=str(number))
    assert len(counter.series()) == MAXIMUM_SERIES + 1
    assert counter.value(**dict(OVERFLOW)) == MAXIMUM_SERIES * 2


def test_threads_lose_no_count() -> None:
    counter = Telemetry().counter("c", "")

    def count() -> None:
        for _ in range(2000):
            counter.increment()

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.value() == 16_000


def test_a_series_is_shown_as_exporters_do() -> None:
    assert str(Series("c")) == "c"
    assert str(Series("c", (("a", 'x"\n\\'), ("b", "y")))) == 'c{a="x\\"\\n\\\\",b="y"}'
