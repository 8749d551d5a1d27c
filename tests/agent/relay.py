"""A connection that outlives the process that made it: `from tests.agent.relay import relayed_from_a_dead_process`."""

import array
import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

CONNECT_AND_HAND_OVER = """
import array, socket, sys
agent = socket.socket(socket.AF_UNIX)
agent.connect(sys.argv[1])
with socket.socket(fileno=int(sys.argv[2])) as out:
    out.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [agent.fileno()]))])
    out.recv(1)
"""


@asynccontextmanager
async def relayed_from_a_dead_process(
    agent: Path, relay: Path, dies: asyncio.Event | None = None
) -> AsyncIterator[Path]:
    """A socket whose bytes reach the agent over another process's connection; that ends at once, or when told."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            arguments = [sys.executable, "-c", CONNECT_AND_HAND_OVER, str(agent), str(theirs.fileno())]
            process = subprocess.Popen(arguments, pass_fds=[theirs.fileno()])
        _, ancillary, _, _ = await asyncio.to_thread(ours.recvmsg, 1, socket.CMSG_SPACE(4))
        (descriptor,) = array.array("i", ancillary[0][2])

        async def end_the_process() -> None:
            if dies is not None:
                await dies.wait()
            ours.send(b"x")
            await asyncio.to_thread(process.wait)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            other = await asyncio.open_unix_connection(sock=socket.socket(fileno=descriptor))
            await asyncio.gather(pump(reader, other[1]), pump(other[0], writer))

        ending = asyncio.ensure_future(end_the_process())
        if dies is None:
            await ending
        server = await asyncio.start_unix_server(serve, relay)
        try:
            yield relay
        finally:
            if dies is not None:
                dies.set()
            await ending
            server.close()
            await asyncio.sleep(0.1)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
