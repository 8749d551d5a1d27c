"""What runs in a thread ends before its owner does."""

import asyncio
import threading

import pytest

from icp_agent.threads import in_thread

pytestmark = pytest.mark.anyio


async def test_gives_results_and_errors():
    assert await in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 1, 0)


@pytest.mark.parametrize("fails", [False, True])
async def test_who_is_cancelled_waits_for_the_thread(fails):
    release, entered, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        release.wait(60)
        done.set()
        if fails:
            raise OSError("disk full")

    task = asyncio.ensure_future(in_thread(work))
    await asyncio.to_thread(entered.wait, 60)
    task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()
