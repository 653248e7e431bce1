"""The swap: write lines if the log ends where expected, and find out the outcome."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from eventstore.errors import (
    ReadRefused,
)
from eventstore.log.port import Exists, Key, Missing, Moved, NotStored, Poisoned, PortError, Refused, Unclear
from eventstore.log.state import LogState, read_line, whole_lines
from eventstore.log.states import States
from eventstore.record import hash_chain
from eventstore.record.scan import Tip

_TRIES = 3  # of writing the same lines at the same position, while answers are lost


class Swapper:
    """Writes to the logs of `States` by compare-and-swap. The caller holds the log's `writing`."""

    def __init__(self, states: States) -> None:
        self._states, self._backend = states, states.backend
        self._syncs_apart = not states.backend.capabilities.blocking

    def settle(self, state: LogState, here: Tip, line: bytes, tip: Tip, error: PortError) -> bool:
        """Find out the outcome of a failed write of one line; return False if it was not written. Raises as `append` does.

        The log is read first. A write that may still arrive is repeated, the same bytes at the same position, so that it cannot
        be there twice.
        """
        self.raise_refused(state, error)
        if self._is_there(state, tip):
            return True
        if not isinstance(error, Unclear):
            return False
        return self._swap(state, here, line, tip, [], sync=False, unclear=error) == tip.seq

    def raise_refused(self, state: LogState, error: PortError) -> None:
        """Raise what an error says to a caller if certainly nothing was written; return if the lines may be there."""
        if isinstance(error, NotStored | Poisoned):
            state.forget()
        if isinstance(error, Refused) and not isinstance(error, Unclear):
            raise self._states.refused(state, error) from error

    def _swap(
        self,
        state: LogState,
        here: Tip | None,
        data: bytes,
        tip: Tip,
        keys: Sequence[Key],
        *,
        sync: bool,
        unclear: Unclear | None = None,
    ) -> int:
        """Write lines after `here` (None: as a new log); return the number of the last written line.

        It is less than the tip's if the log does not end at `here`, or if only some complete batches were written. After a
        refusal the log is read: a call with a lost answer, or an attempt that the engine repeated, may have written these same
        lines. `unclear` is the error of an earlier call.
        """
        for _ in range(_TRIES):
            try:
                tip.life = self._backend.append(state.name, data, expect=here, tip=tip, keys=keys, sync=sync)
            except (Moved, Exists, Missing):
                reached = self._reached(state, data, tip)
                if reached == tip.seq or unclear is None or self._still_holds(state, here):
                    return reached
                break  # the log that may have been written does not exist any more
            except Unclear as error:
                unclear = error
                if self._is_there(state, tip):
                    return tip.seq
            except (NotStored, Poisoned) as error:
                state.forget()
                raise self._states.refused(state, error) from error
            except Refused as error:
                if unclear is not None:  # the earlier write may still arrive, or be there in part
                    break
                raise self._states.refused(state, error) from error
            else:
                return tip.seq
        assert unclear is not None  # noqa: S101 - only that repeats the loop
        state.forget()
        raise self._states.refused(state, unclear) from unclear

    def _reached(self, state: LogState, data: bytes, tip: Tip) -> int:
        """Return the number of the last of some lines that the log has, counted from the first of them."""
        lines = data.split(b"\n")[:-1]
        before = tip.seq - len(lines)
        if self._is_there(state, tip):
            return tip.seq
        if len(lines) == 1:
            return before
        with suppress(Missing, Moved), self._looking(state):
            reading = self._backend.read(state.name, before, tip.seq)
            there = b"".join(whole_lines(reading.chunks, len(lines))).split(b"\n")[:-1]
            for number, (mine, found) in enumerate(zip(lines, there, strict=False)):
                if mine[-hash_chain.HASH_AT :] != found[-hash_chain.HASH_AT :]:
                    return before + number
            return before + len(there)
        return before

    def _is_there(self, state: LogState, tip: Tip) -> bool:
        """Check whether the line at a tip's number is the one to be written there; then set the tip's life."""
        with suppress(Missing, Moved), self._looking(state):
            reading = self._backend.read(state.name, tip.seq - 1, tip.seq)
            parts = hash_chain.split(read_line(reading, tip.seq)[1])
            if parts is not None and parts[1] == tip.digest:
                tip.life = reading.life
                return True
        return False

    def _still_holds(self, state: LogState, here: Tip | None) -> bool:
        """Check whether the log is still the intended one: then lines that it lacks were not written."""
        if here is None:
            return True
        with suppress(Missing, Moved), self._looking(state):
            self._backend.read(state.name, Tip(here.digest, here.offset, here.seq, here.at), here.seq)
            return True
        return False

    @contextmanager
    def _looking(self, state: LogState) -> Iterator[None]:
        """Read the outcome of a write; if the read is refused, the outcome is unknown."""
        try:
            yield
        except ReadRefused as error:
            state.forget()
            raise self._states.unknown(state, error) from error
