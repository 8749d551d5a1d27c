"""The life of one ``authsec run``: follow the agent, write, tell the program, pass signals on, clean up."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Protocol

from authsec_sdk.cli.sidecar.child import FORWARDED, Child, exit_code
from authsec_sdk.cli.sidecar.contents import FileContent, jwt_bundle_file, jwt_svid_file, x509_files
from authsec_sdk.cli.sidecar.feeds import follow, keep_jwt
from authsec_sdk.cli.sidecar.folder import Folder
from authsec_sdk.cli.sidecar.pid_file import signal_by_pid_file
from authsec_sdk.cli.sidecar.settings import JWTFile, OnRotation, RunSettings
from authsec_sdk.cli.sidecar.state import FileState
from authsec_sdk.errors import ConfigurationError, NotReadyError, SpiffeError
from authsec_sdk.http_health import HealthListener
from authsec_sdk.spiffe import JWTSVID, BundleSet, JWTBundle, X509Context
from authsec_sdk.workloadapi import WorkloadAPIClient

__all__ = ["Sidecar", "Tell"]

_ENDING: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
_FIRST_RETRY: Final = 0.5
_LAST_RETRY: Final = 30.0


class Tell(Protocol):
    """What hears of everything that happens."""

    def __call__(self, event: str, /, **facts: object) -> None:
        """Take the name of an event, and facts of JSON's types."""


class Sidecar:
    """Owns the child and every task. In the main thread, for its signals.

    The command is started when every file has been written. A disk that cannot be written to changes nothing of what
    is there, and is tried again; so is an agent that is away.
    """

    def __init__(self, settings: RunSettings, tell: Tell) -> None:
        self._settings = settings
        self._tell = tell
        self._folder = Folder(settings.folder, swap=settings.swap)
        self._state = FileState(settings, lambda: datetime.now(UTC))
        self._child = Child(settings.command)
        self._dirty = asyncio.Event()
        self._complete = asyncio.Event()
        self._news = asyncio.Event()
        self._result: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._last_error = ""
        self._restarting = False
        self._stopping = False

    async def run(self) -> int:
        """Run until a signal, or the command's end, ends it; return the exit code.

        Raises:
            SpiffeError: it cannot begin, or the first files were not there in time.
            OSError: the health listener's address is taken.
        """
        asyncio.get_running_loop().set_default_executor(
            ThreadPoolExecutor(initializer=signal.pthread_sigmask, initargs=(signal.SIG_BLOCK, FORWARDED))
        )  # so that blocking them in the main thread blocks them
        self._folder.check()
        self._folder.clean(self._settings.names())
        tasks: list[asyncio.Task[None]] = []
        health: HealthListener | None = None
        with self._signals():
            try:
                health = await self._listen()
                client = WorkloadAPIClient(self._settings.socket, expected_agent_uid=self._settings.agent_uid)
                async with client:
                    tasks = [asyncio.create_task(job) for job in self._jobs(client)]
                    await self._until_finished(tasks)
            finally:
                await self._end(tasks, health)
        code = self._child.returncode
        return self._result.result() if code is None or not self._settings.follow_command else exit_code(code)

    async def _until_finished(self, tasks: list[asyncio.Task[None]]) -> None:
        waiting: set[asyncio.Future[Any]] = {self._result, *tasks}
        while not self._result.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                future.result()

    def _jobs(self, client: WorkloadAPIClient) -> list[Coroutine[None, None, None]]:
        settings = self._settings
        jobs: list[Coroutine[None, None, None]] = [self._publish(), self._notify()]
        if settings.timeout is not None:
            jobs.append(self._deadline(settings.timeout))
        if settings.layout is not None:
            jobs.append(follow(client.watch_x509_contexts, self._take_context, self._complain))
        if settings.jwt_bundle is not None:
            jobs.append(follow(client.watch_jwt_bundles, partial(self._take_keys, settings.jwt_bundle), self._complain))
        return jobs + [
            keep_jwt(client, file, settings.hint, partial(self._take_jwt, file), self._retry)
            for file in settings.jwt_svids
        ]

    # --- from the agent ---------------------------------------------------------------------------------------------

    def _take_context(self, context: X509Context) -> None:
        try:
            files = x509_files(context, self._settings, now=datetime.now(UTC))
        except SpiffeError as error:
            self._state.refuse_x509()
            self._retry(error)
            return
        self._state.not_after = next(
            svid.not_after for svid in context.svids if self._settings.hint in (None, svid.hint)
        )
        self._offer(files)

    def _take_keys(self, name: str, bundles: BundleSet[JWTBundle]) -> None:
        self._offer({name: FileContent(jwt_bundle_file(bundles), self._settings.modes.jwt_bundle)})

    def _take_jwt(self, file: JWTFile, svid: JWTSVID) -> None:
        self._offer({file.name: FileContent(jwt_svid_file(svid), self._settings.modes.jwt_svid)})

    def _offer(self, files: dict[str, FileContent]) -> None:
        if self._state.offer(files):
            self._dirty.set()

    def _complain(self, error: SpiffeError) -> bool:
        """Go on after a refusal only where there is something good to keep; a supervisor knows what to do else."""
        self._retry(error)
        return self._state.complete

    def _retry(self, error: SpiffeError) -> bool:
        self._last_error = str(error)
        self._tell("kept", problem=self._last_error)
        return True

    async def _deadline(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._complete.wait()
        except TimeoutError:
            missing = ", ".join(self._state.missing)
            because = f": {self._last_error}" if self._last_error else ""
            raise NotReadyError(f"{missing} could not be written within {seconds:g} s{because}") from None

    # --- to the disk ------------------------------------------------------------------------------------------------

    async def _publish(self) -> None:
        retry = _FIRST_RETRY
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            changed = self._state.changed()
            if not changed:
                continue
            files = self._state.wanted() if self._settings.swap else changed
            try:
                others = [name for name in self._state.missing if name not in files]
                await asyncio.to_thread(self._folder.write, files, others)
            except OSError as error:
                self._state.refuse(*changed)
                self._last_error = f"{self._settings.folder} cannot be written to: {error.strerror}"
                self._tell("kept", problem=self._last_error, retry_in=retry)
                asyncio.get_running_loop().call_later(retry, self._dirty.set)
                retry = min(_LAST_RETRY, retry * 2)
                continue
            retry = _FIRST_RETRY
            to_tell = self._state.wrote(changed)
            self._tell("written", files=sorted(changed), folder=str(self._settings.folder))
            if not self._state.complete:
                continue
            first = not self._complete.is_set()
            self._complete.set()
            if self._settings.once:
                self._finish(0)
            elif first or to_tell:
                self._news.set()

    # --- to the program ---------------------------------------------------------------------------------------------

    async def _notify(self) -> None:
        settings = self._settings
        while True:
            await self._news.wait()
            self._news.clear()
            if settings.command:
                await self._tell_command()
            if settings.pid_file is not None and settings.renew_signal is not None:
                try:
                    pid = await signal_by_pid_file(settings.pid_file, settings.renew_signal)
                    self._tell("signalled", pid=pid, signal=settings.renew_signal.name)
                except SpiffeError as error:
                    self._tell("not signalled", problem=str(error))

    async def _tell_command(self) -> None:
        settings, child = self._settings, self._child
        if self._stopping:
            return
        if not child.running:
            self._start()
        elif settings.on_rotation is OnRotation.RESTART:
            self._restarting = True
            try:
                await child.stop(settings.grace)
                if not self._stopping:
                    self._start()
            finally:
                self._restarting = False
        elif settings.on_rotation is OnRotation.SIGNAL and settings.renew_signal is not None:
            sent = await child.renew(settings.renew_signal)
            self._tell("signalled" if sent else "not signalled", signal=settings.renew_signal.name)

    def _start(self) -> None:
        try:
            self._tell("started", pid=self._child.start(), command=self._settings.command[0])
        except ConfigurationError as error:
            if self._settings.follow_command:
                raise
            self._tell("not started", problem=str(error))

    def _child_changed(self) -> None:
        was_running = self._child.running
        self._child.reap()
        if not was_running or self._child.running or self._child.returncode is None:
            return
        self._tell("ended", command=self._settings.command[0], exit_code=exit_code(self._child.returncode))
        if self._settings.follow_command and not self._restarting:
            self._finish(exit_code(self._child.returncode))

    # --- signals and the end ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        handled = FORWARDED if self._settings.command else tuple(_ENDING)
        for number in handled:
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup
            loop.add_signal_handler(number, self._on_signal, number)
        loop.add_signal_handler(signal.SIGCHLD, self._child_changed)
        try:
            yield
        finally:
            # The process ends now, with a code that says how; a signal that comes this late is not to change it.
            signal.pthread_sigmask(signal.SIG_BLOCK, handled)
            for number in (*handled, signal.SIGCHLD):
                loop.remove_signal_handler(number)

    def _on_signal(self, number: signal.Signals) -> None:
        if number is signal.SIGTERM:
            self._stopping = True
        if self._child.forward(number):
            if number is signal.SIGTERM:
                self._finish(0)
        elif number in _ENDING:
            self._stopping = True
            self._finish(130 if number is signal.SIGINT else 0)

    def _finish(self, code: int) -> None:
        """Begin to end, with this code where the command has none to give."""
        if not self._result.done():
            self._result.set_result(code)

    async def _listen(self) -> HealthListener | None:
        wanted = self._settings.health
        if wanted is None or self._settings.once:
            return None
        probes = {wanted.liveness_path: self._state.live, wanted.readiness_path: self._state.ready}
        listener = HealthListener(probes, unhealthy_status=503)
        host, port = await listener.listen(wanted.host, wanted.port)
        self._tell("listening", host=host, port=port)
        return listener

    async def _end(self, tasks: list[asyncio.Task[None]], health: HealthListener | None) -> None:
        asked = self._stopping
        self._stopping = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if health is not None:
            await health.close()
        grace = self._settings.grace
        await (self._child.finish(grace) if asked else self._child.stop(grace))
        if self._settings.remove_at_end:
            await asyncio.to_thread(self._folder.remove, self._settings.names())
