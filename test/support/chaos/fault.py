"""What a fault is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from types import ModuleType

from support.chaos.stage import Stage, Steps

Play = Callable[[Stage, Random], Steps]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong for a while; at its end everything is as before.

    Attributes:
        name: for the report.
        touches: what it changes; two faults that touch different things may be played at once. Empty: only alone.
        play: the fault. It draws everything from its own random numbers before it waits for anything, so that a seed
            gives the same fault whatever the machine does.
        simulated: whether it is one of a simulated clock.
    """

    name: str
    touches: frozenset[str]
    play: Play
    simulated: bool

    def beside(self, other: Fault) -> bool:
        """Return whether both may be played at once."""
        return bool(self.touches and other.touches) and not self.touches & other.touches


def fault(touches: str = "", simulated: bool = False) -> Callable[[Play], Fault]:
    """Make a fault of a function: of its name, and what it touches, separated by spaces."""
    return lambda play: Fault(play.__name__, frozenset(touches.split()), play, simulated)


def faults_of(*modules: ModuleType) -> list[Fault]:
    """Return the faults of modules, in a fixed order."""
    faults = [value for module in modules for value in vars(module).values() if isinstance(value, Fault)]
    return sorted(faults, key=lambda each: each.name)
