"""``make demo``: run the main job once, watch it, and exit 0 only when everything happened as it should."""

import argparse
import asyncio
import contextlib
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from demo import control_plane, view
from demo.control_plane import STRANGER, TRUST_DOMAIN, ControlPlane
from demo.processes import Processes, ProcessFailedError
from demo.story import Story

_SVID_TTL = (
    20  # seconds: with the 10 s that NotBefore lies in the past, an SVID is renewed about 5 s after it was issued
)
_LONG_TTL = 3600


class Demo:
    """One run: the children's events go into the story, and the story decides when it is over."""

    def __init__(self, shown: view.View, broken: str | None) -> None:
        self.story = Story(f"spiffe://{TRUST_DOMAIN}/frontend", f"spiffe://{TRUST_DOMAIN}/payments")
        self._shown = shown
        self._broken = broken
        self._port: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def on_line(self, line: str) -> None:
        """Take one line of a workload's output."""
        try:
            event = json.loads(line)
        except ValueError:
            self.story.wrong.append(f"a workload printed what is no event: {line[:200]}")
            return
        if event["event"] == "listening" and not self._port.done():
            self._port.set_result(event["port"])
        if text := self.story.tell(event):
            self._shown.line(text)
        self._shown.refresh(self.story)

    async def run(self, folder: Path, processes: Processes, seconds: float) -> None:
        """Start everything and watch until the story is complete, or wrong, or the time is up."""
        self._shown.line(f"starting icp-server and icp-agent in {folder}")
        plane = await control_plane.start(
            folder,
            processes,
            svid_ttl=_LONG_TTL if self._broken == "rotation" else _SVID_TTL,
            by_path=self._broken != "attestation",
        )
        self._shown.line(
            "server and agent are up; three workloads are registered by unix:uid, unix:path and unix:sha256"
        )
        await self._start(plane, "payments")
        async with asyncio.timeout(30):
            port = await self._port
        url = {"DEMO_URL": f"https://127.0.0.1:{port}"}
        for name in ("frontend", "intruder", STRANGER):
            await self._start(plane, name, url)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.story.missing() and not self.story.wrong:
                    self._watch_over(processes)
                    await asyncio.sleep(0.1)

    async def _start(self, plane: ControlPlane, name: str, env: dict[str, str] | None = None) -> None:
        known = {"DEMO_FRONTEND": self.story.frontend, "DEMO_PAYMENTS": self.story.payments}
        command = [str(plane.interpreters[name]), "-m", f"demo.{name}"]
        broken = {"DEMO_BREAK": self._broken} if self._broken else {}
        await plane.processes.start(
            name, command, {**plane.workload_env, **known, **broken, **(env or {})}, self.on_line
        )

    def _watch_over(self, processes: Processes) -> None:
        for name in processes.ended():
            if name in ("server", "agent", "payments", "frontend"):
                self.story.wrong.append(f"{name} ended on its own:\n{processes.tail(name)}")


def _summary(story: Story) -> str:
    rotations = ", ".join(f"{who.rsplit('/', 1)[1]} {story.rotations(who)}" for who in (story.frontend, story.payments))
    return (
        f"calls {story.calls}, failures {story.failures}, rotations seen by the peer: {rotations}, "
        f"refusals {story.refusals}, without identity {story.without_identity}"
    )


async def _main(options: argparse.Namespace) -> int:
    task = asyncio.current_task()
    assert task is not None
    for stop in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(stop, task.cancel)
    folder = Path(tempfile.mkdtemp(prefix="authsec-demo-"))
    folder.chmod(0o755)  # workloads of any user may reach the public socket below; each folder in it has its own mode
    processes = Processes(folder)
    interrupted = False
    with view.choose(plain=options.plain) as shown:
        demo = Demo(shown, options.broken)
        try:
            await demo.run(folder, processes, options.seconds)
        except (ProcessFailedError, TimeoutError) as error:
            demo.story.wrong.append(str(error) or f"payments did not start:\n{processes.tail('payments')}")
        except asyncio.CancelledError:
            interrupted = True
        finally:
            await processes.stop()
            if options.keep:
                shown.line(f"logs and data stay in {folder}")
            else:
                shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(f"\n{_summary(demo.story)}\n")
    if interrupted:
        sys.stdout.write("interrupted; nothing was left running\n")
        return 130
    for words in demo.story.wrong:
        sys.stdout.write(f"WRONG: {words}\n")
    for words in demo.story.missing():
        sys.stdout.write(f"DID NOT HAPPEN in time: {words}\n")
    good = not demo.story.wrong and not demo.story.missing()
    sys.stdout.write("everything happened as it should\n" if good else "the demo failed\n")
    return 0 if good else 1


def main() -> int:
    """Run the demo as the command line says; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--seconds", type=float, default=40.0, help="how long to wait for everything (default 40)")
    parser.add_argument("--plain", action="store_true", help="plain lines on a terminal too")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and data")
    parser.add_argument(
        "--break",
        dest="broken",
        choices=("authorizer", "rotation", "attestation"),
        help="switch one protection off, to see that the demo notices",
    )
    return asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    raise SystemExit(main())
