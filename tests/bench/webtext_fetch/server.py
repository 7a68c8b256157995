"""A loopback server that answers as fast as Python can: one page for every path, robots.txt, every connection logged.

Usage: server.py PORT_FILE LOG_FILE PAGE_BYTES HOSTILE(0|1). Listens on all of 127.0.0.0/8. On SIGTERM the log is
written: one JSON object with connections, the most that a host had open at once, and for each host (address) the times
of its requests and what they asked for.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import signal
import sys
import time
import zlib

WORDS = ("the", "of", "and", "a", "in", "to", "it", "is", "was", "that", "for", "on", "are", "with", "as", "be",
         "at", "this")


def page(size: int) -> bytes:
    """Return HTML of `size` bytes that compresses as prose does."""
    chance = random.Random(1)
    text = " ".join(chance.choice(WORDS) + chance.choice(("", "", "s", "ing")) for _ in range(size // 4))
    return f"<html><head><title>A page</title></head><body><p>{text}".encode()[:size]


class Hosts:
    """What was asked of each host: `log` maps it to (seconds, path); most_open the most connections it ever had."""

    def __init__(self, body: bytes, hostile: bool) -> None:
        self.hostile = hostile
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        self.answer = head.encode() + b"Server: bench\r\nConnection: close\r\n\r\n" + body
        self.robots = (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 39\r\nConnection: close\r\n\r\n"
                       b"User-agent: *\nDisallow: /private\n      ")
        self.connections = 0
        self.log: dict[str, list[tuple[float, str]]] = {}
        self.open: dict[str, int] = {}
        self.most_open: dict[str, int] = {}
        self.bomb = zlib.compressobj(9, wbits=31)
        packed = self.bomb.compress(bytes(200_000_000)) + self.bomb.flush()
        self.bomb_answer = (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\nContent-Length: "
                            + str(len(packed)).encode() + b"\r\n\r\n" + packed)


class Connection(asyncio.Protocol):
    """One connection: read a request's head, answer, close."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.head = b""
        self.paused = asyncio.Event()
        self.paused.set()
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.host = transport.get_extra_info("sockname")[0]
        hosts = self.hosts
        hosts.connections += 1
        now_open = hosts.open[self.host] = hosts.open.get(self.host, 0) + 1
        hosts.most_open[self.host] = max(hosts.most_open.get(self.host, 0), now_open)

    def connection_lost(self, error: Exception | None) -> None:
        self.hosts.open[self.host] -= 1
        if self.task is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        self.paused.clear()

    def resume_writing(self) -> None:
        self.paused.set()

    def data_received(self, data: bytes) -> None:
        self.head += data
        if not self.head.endswith(b"\r\n\r\n"):
            return
        path = self.head.split(b" ", 2)[1].decode()
        self.head = b""
        self.hosts.log.setdefault(self.host, []).append((time.monotonic(), path))
        if path == "/robots.txt":
            self.transport.write(self.hosts.robots)
            self.transport.close()
        elif not self.hosts.hostile:
            self.transport.write(self.hosts.answer)
            self.transport.close()
        else:
            kind = path.strip("/").split("/")[0]
            self.task = asyncio.ensure_future(getattr(self, kind)())

    async def _endlessly(self, data: bytes, pause: float = 0.0) -> None:
        while True:
            await self.paused.wait()
            self.transport.write(data)
            await asyncio.sleep(pause)

    async def bomb(self) -> None:
        self.transport.write(self.hosts.bomb_answer)
        self.transport.close()

    async def endless(self) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n")
        await self._endlessly(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    async def drip(self) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100000\r\n\r\n")
        await self._endlessly(b"x", 0.2)

    async def headers(self) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\n")
        await self._endlessly(b"X-Header: " + b"y" * 500 + b"\r\n")

    async def loop(self) -> None:
        self.transport.write(b"HTTP/1.1 302 Found\r\nLocation: /loop/b\r\nContent-Length: 0\r\n"
                             b"Connection: close\r\n\r\n")
        self.transport.close()

    async def short(self) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5000\r\n\r\n<p>cut")
        self.transport.close()

    async def reset(self) -> None:
        self.transport.abort()

    async def silent(self) -> None:
        await asyncio.sleep(3600)


async def main() -> None:
    """Serve until SIGTERM."""
    port_file, log_file, size, hostile = sys.argv[1:5]
    hosts = Hosts(page(int(size)), hostile == "1")
    gc.disable()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(hosts), "0.0.0.0", 0, backlog=4096)
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    with open(port_file, "w", encoding="utf-8") as file:
        file.write(str(server.sockets[0].getsockname()[1]))
    await stopped.wait()
    with open(log_file, "w", encoding="utf-8") as file:
        json.dump({"connections": hosts.connections, "most_open": max(hosts.most_open.values(), default=0),
                   "log": hosts.log}, file)


if __name__ == "__main__":
    asyncio.run(main())
