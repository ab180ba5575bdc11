"""A TCP proxy that is a bad link: latency, bandwidth, loss, cuts, half-open connections, refusals. Emulated, above TCP.

Loss is what a TCP connection shows of it: a lost segment holds up everything behind it until it was sent again. Neither
the slow-down of a sender that sees loss nor a full radio queue is emulated.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

_SEGMENT_BYTES = 1460
_QUEUE_S = 0.25  # what a modem buffers, beyond what is in flight
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Weather:
    """What a link is like.

    Attributes:
        latency_s: From one end to the other.
        bytes_per_s: Bandwidth of each direction, shared by all connections; None for no limit.
        loss: Share of segments that are lost.
    """

    latency_s: float = 0.0
    bytes_per_s: float | None = None
    loss: float = 0.0


class _Direction:
    """One direction of the line: what was put on it comes out later, in order."""

    def __init__(self, proxy: ChaosProxy, seed: int) -> None:
        self._proxy = proxy
        self._random = random.Random(seed)
        self._free_s = 0.0
        self.carried_bytes = 0

    def arrival_s(self, size_bytes: int, now_s: float) -> float:
        """When what is put on the line now comes out."""
        weather = self._proxy.weather
        begins_s = max(now_s, self._free_s)
        lost = sum(self._random.random() < weather.loss for _ in range(0, size_bytes, _SEGMENT_BYTES))
        carried = size_bytes + lost * _SEGMENT_BYTES
        self._free_s = begins_s + (carried / weather.bytes_per_s if weather.bytes_per_s else 0.0)
        self.carried_bytes += size_bytes
        # Its sender learns of a loss after a round trip, and sends again.
        return self._free_s + weather.latency_s + (2 * weather.latency_s if lost else 0.0)

    def wait_s(self, now_s: float) -> float:
        """How long a sender has to hold back because the line's buffer is full."""
        return max(0.0, self._free_s - now_s - _QUEUE_S)


class ChaosProxy:
    """A line to one address, on a thread of its own; a context manager.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        weather: What the line is like; may be changed at any time.
    """

    def __init__(self, host: str, port: int, weather: Weather | None = None, *, seed: int = 1) -> None:
        self.weather = weather or Weather()
        self._target = host, port
        self._up, self._down = _Direction(self, seed), _Direction(self, seed + 1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos", daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusing = False
        self._silenced: set[asyncio.StreamWriter] = set()

    @property
    def carried_bytes(self) -> tuple[int, int]:
        """Bytes of TCP payload toward the address, and back."""
        return self._up.carried_bytes, self._down.carried_bytes

    def cut(self) -> None:
        """Break every connection, as when a link goes down and up again."""
        self._call(self._break_all)

    def refuse(self, refusing: bool = True) -> None:
        """Let nobody in until told otherwise, and break every connection."""
        self._refusing = refusing
        if refusing:
            self.cut()

    def silence(self) -> None:
        """Leave every connection half open: neither end hears the other, or of it. New ones are let in."""
        self._call(lambda: self._silenced.update(self._writers))

    def __enter__(self) -> ChaosProxy:
        self._thread.start()
        self._run(self._serve())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, act: Callable[[], None]) -> None:
        done = threading.Event()

        def run() -> None:
            act()
            done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait()

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    # Below: on the proxy's own thread.

    async def _serve(self) -> None:
        self._server = await asyncio.start_server(self._connect, sock=self._listener)

    async def _close(self) -> None:
        self._server.close()
        self._break_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _break_all(self) -> None:
        for writer in self._writers:
            _reset(writer)
        self._writers.clear()
        self._silenced.clear()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            _reset(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        for one in (writer, far_writer):
            one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._writers.add(one)
        for direction, source, sink in ((self._up, reader, far_writer), (self._down, far_reader, writer)):
            task = self._loop.create_task(self._carry(direction, source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, direction: _Direction, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        underway: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivering = self._loop.create_task(self._deliver(underway, sink))
        try:
            while data := await source.read(4 * _SEGMENT_BYTES):
                underway.put_nowait((direction.arrival_s(len(data), self._loop.time()), data))
                await asyncio.sleep(direction.wait_s(self._loop.time()))
        except OSError:
            pass
        finally:
            underway.put_nowait((self._loop.time() + self.weather.latency_s, b""))
            await delivering

    async def _deliver(self, underway: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter) -> None:
        while True:
            arrives_s, data = await underway.get()
            await asyncio.sleep(max(0.0, arrives_s - self._loop.time()))
            if sink in self._silenced:
                continue
            if not data or sink.is_closing():
                break
            sink.write(data)
        sink.close()
        self._writers.discard(sink)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Break a connection with RST, not with a polite end."""
    with contextlib.suppress(OSError):  # closed already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
