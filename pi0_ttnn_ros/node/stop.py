"""Whether the node is stopped: by ~/stop or ~/emergency_stop, until ~/reset, over a restart of the node as well."""

from __future__ import annotations

import os
from pathlib import Path

UNTIL_RESET = "until ~/reset"
# What the file holds while the node is not stopped. With any other content, or none that can be read, it is.
NOT_STOPPED = "not stopped\n"


class StopState:
    """Set by `stop` and by an emergency stop; only `reset` clears it.

    Attributes:
        reason: why the node is stopped; empty if it is not.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._file: Path | None = None
        self._emergency = False

    def keep_in(self, file: Path | None) -> None:
        """Restore the stop that `file` holds, and keep the state there from now on; None: it is not kept.

        A file that cannot be read or written stops the node.
        """
        if file == self._file:
            return
        self._file = file
        if file is None:
            return
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            kept = file.read_text(errors="replace") if file.exists() else NOT_STOPPED
            _write(file, self.reason or NOT_STOPPED if kept == NOT_STOPPED else kept)
        except OSError as error:
            self.reason = f"the stop cannot be kept over a restart, {UNTIL_RESET}: {error}"
            return
        if kept != NOT_STOPPED:
            self.reason = f"{kept.strip() or UNTIL_RESET} (before the node started; kept in {file})"

    def stop(self, reason: str) -> bool:
        """Stop for this reason and return whether it is a new one. If so, `keep` has to follow once the robot holds."""
        before, self.reason = self.reason, f"{reason}, {UNTIL_RESET}"
        return before != self.reason

    def on_emergency_stop(self, pressed: bool) -> bool:
        """Take the state of the emergency stop and return whether it changed; if so, as after `stop`.

        The release does not start a motion.
        """
        if pressed == self._emergency:
            return False
        self._emergency = pressed
        self.stop(f"emergency stop {'pressed' if pressed else 'released'} (~/emergency_stop)")
        return True

    def keep(self) -> None:
        """Write the stop to the file."""
        if self._file is not None:
            try:
                _write(self._file, self.reason)
            except OSError as error:
                self.reason += f"; not kept over a restart: {error}"

    def reset(self) -> str:
        """Clear the stop; return why it stays, empty if it is cleared."""
        if self._emergency:
            return "the emergency stop is pressed"
        if self._file is not None and self.reason:
            try:
                _write(self._file, NOT_STOPPED)
            except OSError as error:
                return f"the stop cannot be kept over a restart: {error}"
        self.reason = ""
        return ""


def _write(file: Path, text: str) -> None:
    """Replace the file's content: after a loss of power it is the old or the new one, whole."""
    temporary = file.with_name(f"{file.name}.new")
    with temporary.open("w") as output:
        output.write(text)
        output.flush()
        os.fsync(output.fileno())
    temporary.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
