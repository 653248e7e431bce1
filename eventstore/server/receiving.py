"""The body of a request, received within a limit of bytes and of time, and no longer than the server runs."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from eventstore.server.problems import Problem, Refusal

MOST_BODY_BYTES = 16 * 1024 * 1024
MOST_BODY_SECONDS = 60.0  # the largest body at 2 Mbit/s


def too_large() -> Problem:
    """Describe a body over the limit."""
    return Problem("Too large", 413, f"a body has at most {MOST_BODY_BYTES} bytes; nothing was done")


async def receive_body(request: Request, stopping: asyncio.Event) -> bytes:
    """Receive a body. Raises Refusal: 413 if it is too long, 408 if it does not come in time, 503 if the server ends.

    A client that stops in the middle of a body would keep its request, and the end of the server waiting for it.
    """
    receiving, ending = asyncio.ensure_future(_receive(request)), asyncio.ensure_future(stopping.wait())
    try:
        both = (receiving, ending)
        await asyncio.wait(both, timeout=MOST_BODY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if receiving.done():
            return receiving.result()
    finally:
        receiving.cancel()
        ending.cancel()
    if stopping.is_set():
        raise Refusal(503, "the server ends; nothing was done: send it again", "Server ends")
    reason = f"the body did not come within {MOST_BODY_SECONDS:.0f} seconds; nothing was done: send it again"
    raise Refusal(408, reason, "Too slow")


async def _receive(request: Request) -> bytes:
    parts, size = list[bytes](), 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > MOST_BODY_BYTES:
                problem = too_large()
                raise Refusal(problem.status, problem.detail, problem.title)
            parts.append(part)
    except ClientDisconnect:
        raise Refusal(400, "the body is incomplete; nothing was done: send it again", "Incomplete") from None
    return b"".join(parts)
