"""The types of a bag's messages: as defined in the bag, otherwise as in ROS 2 Jazzy and this package."""

from __future__ import annotations

from functools import cache
from typing import Any

from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from pi0_ttnn_ros.bags.storage import Channel
from pi0_ttnn_ros.system.package_files import package_file

OWN_TYPES = ("ActionChunk", "PolicyStatus")
_IDL_SEPARATOR = "=" * 80 + "\n"


class TypeProblem(ValueError):
    """A type's definition cannot be used, or bytes are not a message of the type."""


@cache
def jazzy_types() -> Typestore:
    """Return the types of ROS 2 Jazzy and of this package. The store is shared: register nothing in it."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name in OWN_TYPES:
        definition = package_file("msg", f"{name}.msg").read_text(encoding="utf-8")
        store.register(get_types_from_msg(definition, f"pi0_ttnn_ros/msg/{name}"))
    return store


class BagTypes:
    """Deserialises messages; definitions in the bag take precedence."""

    def __init__(self) -> None:
        self._stored = get_typestore(Stores.EMPTY)
        self._known = jazzy_types()

    def add(self, channel: Channel) -> None:
        """Add the definition of a type that a storage file has, if it has one.

        Raises:
            TypeProblem: it cannot be read, or contradicts an earlier one.
        """
        if not channel.definition or channel.type in self._stored.fielddefs:
            return
        try:
            self._stored.register(_parse(channel))
        except (TypesysError, ValueError, KeyError) as error:
            raise TypeProblem(f"the definition of {channel.type} in the bag cannot be used ({error})") from error

    def __contains__(self, type_name: str) -> bool:
        return type_name in self._stored.fielddefs or type_name in self._known.fielddefs

    def has_header(self, type_name: str) -> bool:
        """Return whether messages of this type, which must be known, begin with a std_msgs/Header."""
        fields = self._store(type_name).fielddefs[type_name][1]
        return bool(fields) and fields[0][1][1] == "std_msgs/msg/Header"

    def decode(self, raw: memoryview, type_name: str) -> Any:
        """Return the deserialised message.

        Raises:
            TypeProblem: the bytes are not a message of that type.
        """
        try:
            return self._store(type_name).deserialize_cdr(raw, type_name)
        except (SerdeError, KeyError, AssertionError) as error:
            raise TypeProblem(f"a message of {len(raw)} bytes is not a {type_name} ({error})") from error

    def _store(self, type_name: str) -> Typestore:
        return self._stored if type_name in self._stored.fielddefs else self._known


def _parse(channel: Channel) -> Any:
    if channel.definition_format != "ros2idl":
        return get_types_from_msg(channel.definition, channel.type)
    types: dict[str, Any] = {}
    for part in channel.definition.split(_IDL_SEPARATOR):
        header, _, idl = part.partition("\n")
        types |= get_types_from_idl(idl if header.startswith("IDL: ") else part) if part.strip() else {}
    return types
