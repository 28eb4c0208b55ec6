"""Children of a supervisor, with their slots."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import trio

from jobrt._supervision.child import Child
from jobrt._supervision.decisions import Slot, Slots
from jobrt._supervision.records import ChildStatistics


@attrs.define(eq=False)
class Children:
    """Children of a supervisor by name, in the order added. Each change of a slot sets ``changed``."""

    supervisor: str
    slots: Slots = attrs.field(init=False, factory=dict[str, Slot])
    changed: trio.Event = attrs.field(init=False, factory=trio.Event)
    _by_name: dict[str, Child] = attrs.field(init=False, factory=dict[str, Child])

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Child]:
        return iter(self._by_name.values())

    def __contains__(self, child: Child) -> bool:
        return self._by_name.get(child.name) is child

    def find(self, name: str) -> Child:
        """Return the child with a name.

        Raises:
            LookupError: there is no such child.

        """
        if name not in self._by_name:
            raise LookupError(f"supervisor {self.supervisor!r} has no child {name!r}")
        return self._by_name[name]

    def new_name(self, name: str | None, *, default: str) -> str:
        """Return the name for a new child: `name`, or else `default` with a number if that is taken.

        Raises:
            ValueError: `name` is taken.

        """
        if name in self._by_name:
            raise ValueError(f"supervisor {self.supervisor!r} already has a child {name!r}: use another name")
        candidates = (default, *(f"{default}-{number}" for number in range(2, len(self) + 2)))
        return name or next(each for each in candidates if each not in self._by_name)

    def add(self, child: Child, slot: Slot) -> None:
        """Add a child, whose name is not taken."""
        self._by_name[child.name] = child
        self.slots = {**self.slots, child.name: slot}

    def set_slot(self, child: Child, slot: Slot) -> None:
        """Replace the slot of a child."""
        self.set_slots({**self.slots, child.name: slot})

    def set_slots(self, slots: Slots) -> None:
        """Replace the slots, and record the time of each change of state."""
        before, self.slots = self.slots, slots
        self.changed.set()
        for name, slot in slots.items():
            if slot.phase.state is not before[name].phase.state:
                self._by_name[name].record_state(trio.current_time())

    def forget_removed(self, child: Child) -> None:
        """Forget a child if it was removed and has ended."""
        if child.removed and child in self and not self.slots[child.name].alive:
            del self._by_name[child.name]
            self.set_slots({name: slot for name, slot in self.slots.items() if name != child.name})

    def statistics(self, *, period_start: float) -> tuple[ChildStatistics, ...]:
        """Return a snapshot of each child; recent restarts count from `period_start`."""
        return tuple(child.statistics(self.slots[child.name], period_start=period_start) for child in self)

    def stop_timeout(self, *, in_turn: bool) -> float:
        """Return the maximum time in seconds until all children have ended, if each ends in time."""
        # A child that is asked first has its time twice.
        times = [child.stop_timeout() * (1 if child.stop is None else 2) for child in self]
        return sum(times) if in_turn else max(times, default=0.0)

    def have_below(self, other: object) -> bool:
        """Return whether `other` is a supervisor among the children, or below them."""
        return any(child.nested.contains(other) for child in self if child.nested is not None)
