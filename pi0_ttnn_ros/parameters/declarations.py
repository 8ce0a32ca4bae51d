"""How a parameter is declared: on the field of a dataclass, with default, range and description."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, get_origin, get_type_hints

# By annotation. A dict of sections is declared as the array of their names.
TYPES = {
    bool: "bool",
    str: "string",
    int: "integer",
    float: "double",
    float | None: "double",
    list[str]: "string array",
    list[float]: "double array",
    dict: "string array",
}
ELEMENTS = {"bool": bool, "string": str, "integer": int, "double": float, "string array": str, "double array": float}


class ParameterError(ValueError):
    """A parameter that cannot be used; the message names it and the remedy."""


@dataclass(frozen=True)
class Declaration:
    """One parameter.

    Attributes:
        name: full name, as `ros2 param list` prints it.
        attribute: name of the dataclass field that holds its value.
        type: one of `ELEMENTS`.
        default: None or an empty array where the parameter may be left unset.
        description: one or two sentences, with the unit.
        bounds: smallest and largest value, both allowed.
        choices: the values of a string; any if empty.
        live: whether it can change at any time; otherwise it takes effect at configure.
        group: title of the group that begins with this parameter.
    """

    name: str
    attribute: str
    type: str
    default: Any
    description: str
    bounds: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    live: bool = False
    group: str = ""

    def check(self, value: Any) -> None:
        """Check type, range and choice. As in rcl, an integer is not a double: what passes here passes in the node.

        Raises:
            ParameterError: the value does not fit.
        """
        element, is_array = ELEMENTS[self.type], self.type.endswith("array")
        elements = value if isinstance(value, list) else [value]
        if isinstance(value, list) != is_array or any(type(each) is not element for each in elements):
            raise ParameterError(f"{self.name} is {value!r}, but must be of type {self.type}{self._remedy(elements)}")
        if element is float and not all(map(math.isfinite, elements)):
            raise ParameterError(f"{self.name} is {value}, but must be finite")
        if self.bounds and not self.bounds[0] <= value <= self.bounds[1]:
            low, high = self.bounds
            raise ParameterError(f"{self.name} is {value}, but must be from {low:g} to {high:g}")
        if self.choices and value not in self.choices:
            raise ParameterError(f"{self.name} is {value!r}: choose one of {list(self.choices)}")

    def _remedy(self, elements: list[Any]) -> str:
        if ELEMENTS[self.type] is not float or any(type(each) not in (int, float) for each in elements):
            return ""
        numbers = [float(each) for each in elements]
        return f": write {numbers if self.type.endswith('array') else numbers[0]}"


def parameter(
    default: Any,
    description: str,
    *,
    name: str = "",
    bounds: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
    live: bool = False,
    group: str = "",
) -> Any:
    """Declare the field of a dataclass as a parameter. `name` is for one that is not named as its field."""
    about = {"default": default, "description": description, "bounds": bounds, "choices": choices}
    return field(metadata={**about, "name": name, "live": live, "group": group})


def declarations(of: type, prefix: str = "") -> Iterator[Declaration]:
    """Yield the parameters that the fields of a dataclass declare, with `prefix` before their names."""
    hints = get_type_hints(of)
    for each in fields(of):
        if each.metadata:
            about = dict(each.metadata)
            name = prefix + (about.pop("name") or each.name)
            hint = hints[each.name]
            yield Declaration(name, each.name, TYPES[get_origin(hint) if get_origin(hint) is dict else hint], **about)
