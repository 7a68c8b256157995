"""One budget of memory for all bodies in flight, so that a thousand hostile ones cannot exhaust the machine.

Whoever wants more than is left waits, and stops reading meanwhile, which TCP passes on to the server. One ticket at a
time may go beyond the budget: so some body always comes to its end, and at most the budget and one body more are held.
When that one is done, the next is who waits with the most bytes, whose end will free the most.
"""

from __future__ import annotations

import asyncio


class ByteBudget:
    """`total` bytes; `used` are taken, `peak` is the most that ever were."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self.peak = 0
        self._ahead: Ticket | None = None
        self._waiting: dict[Ticket, tuple[int, asyncio.Future[None]]] = {}

    def grant(self, ticket: Ticket, size: int) -> bool:
        """Take `size` bytes for a ticket if they are there, or if it is the one that may go beyond."""
        if self.used + size > self.total:
            if self._ahead is None:
                self._ahead = ticket
            elif self._ahead is not ticket:
                return False
        self.used += size
        ticket.held += size
        self.peak = max(self.peak, self.used)
        return True

    async def wait(self, ticket: Ticket, size: int) -> None:
        """Take them when it is the ticket's turn."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = (size, turn)
        try:
            await turn
        finally:
            self._waiting.pop(ticket, None)

    def give_back(self, ticket: Ticket, size: int) -> None:
        """Return bytes of a ticket; those who wait get them."""
        self.used -= size
        ticket.held -= size
        if self._waiting and size:
            self._serve()

    def forget(self, ticket: Ticket) -> None:
        """Return all bytes of a ticket that is done."""
        self.used -= ticket.held
        ticket.held = 0
        if self._ahead is ticket:
            self._ahead = None
        if self._waiting:
            self._serve()

    def _serve(self) -> None:
        if self._ahead is None:
            first = max(self._waiting, key=lambda ticket: ticket.held)
            self._hand(first)
        for ticket in list(self._waiting):
            if not self._hand(ticket):
                return

    def _hand(self, ticket: Ticket) -> bool:
        size, turn = self._waiting[ticket]
        if not turn.done() and not self.grant(ticket, size):
            return False
        if not turn.done():
            turn.set_result(None)
        return True


class Ticket:
    """What one body holds of a budget. waited: the seconds it had to wait for that."""

    __slots__ = ("_budget", "held", "waited")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.held = 0
        self.waited = 0.0

    def take(self, size: int) -> bool:
        """Take `size` bytes at once, or return False: then await wait(size)."""
        return self._budget.grant(self, size)

    async def wait(self, size: int) -> None:
        """Take `size` bytes as soon as there are so many."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self._budget.wait(self, size)
        finally:
            self.waited += loop.time() - began

    def give_back(self, size: int) -> None:
        """Return what was taken and not needed."""
        self._budget.give_back(self, size)

    def release(self) -> None:
        """Return everything."""
        self._budget.forget(self)
