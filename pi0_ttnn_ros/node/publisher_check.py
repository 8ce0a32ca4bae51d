"""Notice that several publishers share a topic: whoever receives it sees their messages alternate."""

from __future__ import annotations

from collections import deque

# A publisher that is restarted numbers its messages from the beginning, once. Those of two publishers go back all the
# time.
RETURNS = 2
WINDOW_S = 5.0
UNNUMBERED = 2**64 - 1  # what a middleware gives that does not number messages (RMW_MESSAGE_INFO_SEQUENCE_NUMBER_...)


class PublisherCheck:
    """The numbers of the messages of one topic; each publisher counts its own."""

    def __init__(self) -> None:
        self._last = -1
        self._returned_at: deque[float] = deque(maxlen=RETURNS)

    def put(self, number: int | None, now: float) -> None:
        """Take the number of a message that was received at `now`, in seconds; None if it has none (Humble)."""
        if number is None or number == UNNUMBERED:
            return
        if number <= self._last:
            self._returned_at.append(now)
        self._last = number

    def several(self, now: float) -> bool:
        """Return whether several publishers have been active lately."""
        return len(self._returned_at) == RETURNS and now - self._returned_at[0] < WINDOW_S
