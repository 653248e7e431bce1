"""Handling: a function that is called for each event of a subscription, with a position that outlives the program."""

import threading
from collections.abc import Callable
from typing import Self

from eventstore.subscriptions.subscription import Delivered, Subscription


class Handling:
    """Calls `handler` for each event of a subscription, in order.

    `run()` works in the calling thread, until the last event if the subscription is not live, else until `stop()`. As a context
    manager it runs in a thread of its own; the end of the block stops it and raises what the handler raised.

    An event counts as handled when `handler` returns. If it raises, the subscription is closed, and the position stays in front
    of that event: who subscribes with the same name is given it again.
    """

    def __init__(self, subscription: Subscription, handler: Callable[[Delivered], object]) -> None:
        self.subscription, self._handler = subscription, handler
        self._thread: threading.Thread | None = None
        self.error: BaseException | None = None
        self.count = 0
        self._has_run = False

    def run(self) -> int:
        """Handle events until the end or `stop`; return how many were handled. Raises what the handler and `follow` raise.

        Raises RuntimeError if it ran before: its subscription is closed then.
        """
        if self._has_run:
            raise RuntimeError("this subscription has ended; nothing was handled: subscribe again with the same name")
        self._has_run = True
        with self.subscription:
            for one in self.subscription:
                self._handler(one)
                self.subscription.mark_done(one)
                self.count += 1
                if self.subscription.is_stopped:
                    break
        return self.count

    def start(self) -> Self:
        """Run in a thread of its own. `error` is what ended it, if something did."""
        if self._thread is not None:
            raise RuntimeError("this subscription runs already")
        self._thread = threading.Thread(target=self._run, name="eventstore-subscription", daemon=True)
        self._thread.start()
        return self

    def _run(self) -> None:
        try:
            self.run()
        except BaseException as error:
            self.error = error

    def stop(self) -> None:
        """End it after the event that is being handled. May be called from any thread, also from the handler."""
        self.subscription.stop()

    def join(self, timeout_seconds: float | None = None) -> None:
        """Wait until the thread ends. Raises what ended it, and TimeoutError."""
        if self._thread is None:
            return
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            raise TimeoutError("the subscription still runs")
        if self.error is not None:
            raise self.error

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        if kind is None:
            self.join()
        elif self._thread is not None:
            self._thread.join()
