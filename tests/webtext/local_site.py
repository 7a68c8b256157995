"""A real HTTP server on the loopback interface, honest on some paths and hostile on others, that keeps a log."""

from __future__ import annotations

import contextlib
import gzip
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator

PROSE = (
    "The keeper of the light at {name} wrote every evening what the sea had done that day. "
    "He wrote of fog and of herring boats, of a whale that passed in March, and of the {name} bell. "
    "When the inspectors came they read his book for an hour and forgot to look at the lamp. "
)


def article(name: str) -> bytes:
    """A page whose text differs by name and is long enough to be a document."""
    paragraphs = "".join(f"<p>{PROSE.format(name=f'{name} {part}')}</p>" for part in ("north", "south", "east"))
    body = f"<article><h1>{name}</h1>{paragraphs}</article>"
    return f"<html><head><title>{name}</title></head><body>{body}</body></html>".encode()


class Site(socketserver.ThreadingTCPServer):
    """`log` holds (path, time of request, headers); `most_at_once` the largest number of connections owed an answer.

    together: requests (of robots.txt none) that must be owed an answer at once before any gets one, for a minute.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, robots: tuple[int, bytes] = (404, b""), delay_s: float = 0.0,
                 address: str = "127.0.0.1") -> None:
        super().__init__((address, 0), _Handler)
        self.robots = robots
        self.robots_location = ""
        self.delay_s = delay_s
        self.log: list[tuple[str, float, dict[str, str]]] = []
        self.open_now = 0
        self.most_at_once = 0
        self.lock = threading.Lock()
        self.together = 0
        self.met = threading.Event()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def hits(self) -> Counter[str]:
        return Counter(path for path, _, _ in self.log)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are expected."""


class _Handler(socketserver.BaseRequestHandler):
    server: Site
    request: socket.socket

    def handle(self) -> None:
        self.counted = True
        with self.server.lock:
            self.server.open_now += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.open_now)
        try:
            with self.request.makefile("rb") as lines:
                path = lines.readline().split()[1].decode()
                headers = {}
                while (line := lines.readline().strip()):
                    key, _, value = line.decode().partition(":")
                    headers[key.lower()] = value.strip()
            self.server.log.append((path, time.monotonic(), headers))
            time.sleep(self.server.delay_s)
            if self.server.together and path != "/robots.txt":
                if self.server.open_now >= self.server.together:
                    self.server.met.set()
                self.server.met.wait(60)
            self.answer(path)
        finally:
            self.count_no_more()

    def count_no_more(self) -> None:
        """Called before an answer's last byte: the client may then be back on a new connection before we close."""
        if self.counted:
            self.counted = False
            with self.server.lock:
                self.server.open_now -= 1

    def reply(self, body: bytes, status: str = "200 OK", kind: str = "text/html; charset=utf-8", *extra: str) -> None:
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *extra]
        if kind:
            head.append(f"Content-Type: {kind}")
        self.count_no_more()
        self.request.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)

    def redirect(self, location: str) -> None:
        self.reply(b"", "302 Found", "text/html", f"Location: {location}")

    def answer(self, path: str) -> None:
        name = path.split("?")[0].strip("/").split("/")[0].replace("-", "_")
        method = getattr(self, f"do_{name}", None)
        if path == "/robots.txt":
            status, body = self.server.robots
            self.reply(body, f"{status} Robots", "text/plain", f"Location: {self.server.robots_location}")
        elif method is None:
            self.reply(article(path))
        else:
            method(path)

    def do_busy(self, path: str) -> None:
        """/busy/N/S: 503 with Retry-After S for the first N times."""
        _, _, times, seconds = path.split("/")
        if self.server.hits()[path] <= int(times):
            self.reply(b"", "503 Busy", "text/html", f"Retry-After: {seconds}")
        else:
            self.reply(article(path))

    def do_flaky(self, path: str) -> None:
        """/flaky/N: reset for the first N times."""
        if self.server.hits()[path] <= int(path.split("/")[2]):
            self.do_reset(path)
        else:
            self.reply(article(path))

    def do_missing(self, path: str) -> None:
        self.reply(article("nothing here"), "404 Not Found")

    def do_pdf(self, path: str) -> None:
        self.reply(b"%PDF-1.4", kind="application/pdf")

    def do_odd_type(self, path: str) -> None:
        self.request.sendall(b"HTTP/1.1 200 \xff\xfe\r\nContent-Type: text/\xed\xa0\x80\xff\r\n"
                             b"Content-Length: 1\r\n\r\nx")

    def do_untyped(self, path: str) -> None:
        self.reply(article("untyped"), kind="")

    def do_gzip(self, path: str) -> None:
        self.reply(gzip.compress(article("squeezed")), "200 OK", "text/html", "Content-Encoding: gzip")

    def do_bomb(self, path: str) -> None:
        self.reply(gzip.compress(bytes(200_000_000), 1), "200 OK", "text/html", "Content-Encoding: gzip")

    def do_damaged(self, path: str) -> None:
        self.reply(b"\x1f\x8b\x08\x00not gzip at all", "200 OK", "text/html", "Content-Encoding: gzip")

    def do_endless(self, path: str) -> None:
        self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            self.request.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    def do_drip(self, path: str) -> None:
        self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(1000):
            self.request.sendall(b"x")
            time.sleep(0.05)

    def do_silent(self, path: str) -> None:
        self.request.settimeout(60)
        self.request.recv(1)

    def do_huge_headers(self, path: str) -> None:
        self.request.sendall(b"HTTP/1.1 200 OK\r\n")
        for number in range(100_000):
            self.request.sendall(f"X-{number}: {'y' * 500}\r\n".encode())

    def do_long_header(self, path: str) -> None:
        self.request.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
        for _ in range(1000):
            self.request.sendall(b"y" * 65536)

    def do_short(self, path: str) -> None:
        self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5000\r\n\r\n<p>cut")

    def do_reset(self, path: str) -> None:
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.request.close()

    def do_garbage(self, path: str) -> None:
        self.request.sendall(b"220 mail.example ESMTP\r\n" * 3)

    def do_loop_a(self, path: str) -> None:
        self.redirect("/loop-b")

    def do_loop_b(self, path: str) -> None:
        self.redirect("/loop-a")

    def do_chain(self, path: str) -> None:
        left = int(path.split("/")[2])
        self.redirect(f"/chain/{left - 1}" if left else "/end")

    def do_goto(self, path: str) -> None:
        self.redirect(path.partition("?")[2])


@contextlib.contextmanager
def serving(robots: tuple[int, bytes] = (404, b""), delay_s: float = 0.0, address: str = "127.0.0.1"
            ) -> Iterator[Site]:
    """Yield a Site that answers for the length of the block; address 0.0.0.0: on all of 127.0.0.0/8."""
    with Site(robots, delay_s, address) as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield site
        finally:
            site.shutdown()
