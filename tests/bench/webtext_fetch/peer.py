"""The yardstick: aiohttp alone asks for robots.txt and the page of every link, each on a new connection; keeps nothing.

Usage: peer.py LINKS CONCURRENCY
"""

from __future__ import annotations

import asyncio
import json
import sys

import aiohttp
from yarl import URL


async def main() -> None:
    """Ask for everything."""
    with open(sys.argv[1], encoding="utf-8") as file:
        urls = iter([json.loads(line)["url"] for line in file])
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def work() -> None:
            for url in urls:
                for one in (URL(url).with_path("/robots.txt"), URL(url)):
                    async with session.get(one, allow_redirects=False) as answer:
                        await answer.read()

        await asyncio.gather(*(work() for _ in range(int(sys.argv[2]))))


if __name__ == "__main__":
    asyncio.run(main())
