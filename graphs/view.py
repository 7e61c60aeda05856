"""What a reader has marked in a circuit: pinned nodes, and supernodes with a name and a note."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from patching.sites import nearest
from tasks.errors import FormatError, all_faults


@dataclass(frozen=True, slots=True)
class Group:
    """A supernode: some nodes under one name."""

    name: str
    members: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """The marks of one circuit, by names of its nodes."""

    pinned: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()

    def check(self, nodes: Sequence[str]) -> None:
        """Refuse marks of nodes that the circuit does not have, and a supernode of nothing.

        Raises:
            FormatError: listing them.
        """
        marked = [*self.pinned, *(name for group in self.groups for name in group.members)]
        known = set(nodes)
        faults = [
            f"'{name}' is marked and not in the circuit{nearest(name, list(nodes))}"
            for name in dict.fromkeys(marked)
            if name not in known
        ]
        faults += [
            f"the supernode '{group.name}' has no members"
            for group in self.groups
            if not group.members
        ]
        if faults:
            raise FormatError(all_faults("these marks cannot be used:", faults))

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the shape of :class:`ViewPart`."""
        groups = [
            {"name": group.name, "members": list(group.members), "note": group.note}
            for group in self.groups
        ]
        return {"pinned": list(self.pinned), "groups": groups}

    def among(self, nodes: Iterable[str]) -> View:
        """The marks of some nodes; supernodes of which nothing is left are dropped."""
        known = set(nodes)
        groups = [
            Group(group.name, left, group.note)
            for group in self.groups
            if (left := tuple(name for name in group.members if name in known))
        ]
        return View(tuple(name for name in self.pinned if name in known), tuple(groups))


class GroupPart(BaseModel):
    """A supernode: some nodes under one name."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(description="What it is called.")
    members: list[str] = Field(min_length=1, description="Ids of its nodes.")
    note: str = Field(default="", description="What a reader says of it.")


class ViewPart(BaseModel):
    """What a reader has marked."""

    model_config = ConfigDict(extra="forbid", strict=True)

    pinned: list[str] = Field(default_factory=list, description="Ids of pinned nodes.")
    groups: list[GroupPart] = Field(default_factory=list, description="Supernodes.")

    def view(self) -> View:
        """The marks as a value."""
        groups = (Group(g.name, tuple(g.members), g.note) for g in self.groups)
        return View(tuple(self.pinned), tuple(groups))
