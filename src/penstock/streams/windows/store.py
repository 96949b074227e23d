"""The state of a windowed operator: keys, their tiles, and a journal of what is done to both.

Everything that changes the state is one of a few verbs. Each verb is noted with what it came to, so that
replaying the notes on an equal state gives the same state, bit for bit, without the events.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.core.errors import CorruptState, InvalidInput
from penstock.streams.keys import KeyTable, check_names, read_table, written_table
from penstock.streams.packing import pack, unpack
from penstock.streams.windows.aggregates.counting import Counted
from penstock.streams.windows.aggregates.part import Aggregate, Part
from penstock.streams.windows.aggregates.sketch import Sketched
from penstock.streams.windows.inputs import Inputs
from penstock.streams.windows.tiles import Column, Field, Ints, Merge, Tiles

__all__ = ["TileStore"]

LOWEST = -(1 << 46)
EVICTED_SHARE = 16
"""Where keys pass their cap, one in so many goes at once, so that choosing them costs little for each."""
Arrays = Mapping[str, npt.NDArray[Any]]


class TileStore:
    """Tiles of keys in the fields of the aggregates' parts. It knows the columns' types from the first frame
    on.

    `fingerprint` tells states of different operators apart. `reach` as `Tiles` has it. At most `keys_max` keys
    are left by `evict`.
    """

    def __init__(
        self,
        keys: Sequence[str],
        aggregates: Sequence[Aggregate | Sketched],
        reach: int,
        keys_max: int,
        fingerprint: str,
    ) -> None:
        self._aggregates = [each for each in aggregates if not isinstance(each, Sketched)]
        self.sketches = tuple(dict.fromkeys(each.sketch for each in aggregates if isinstance(each, Sketched)))
        self.reach = reach
        self._keys_max = keys_max
        self._fingerprint = fingerprint
        self.keys = KeyTable(keys)
        self.inputs = Inputs(each.column for each in self._aggregates if each.column is not None)
        self.layout: tuple[tuple[Part, tuple[Field, ...]], ...] = ()
        """The parts with their fields."""
        self.tiles = Tiles((), reach)
        self.sketch_tiles = tuple(Tiles((each.field,), reach * each.buckets) for each in self.sketches)
        self.marks = dict.fromkeys(("reached", "swept", "watermark_ms", "newest_ms"), LOWEST)
        self.counts = dict.fromkeys(("dropped", "evicted", "expired", "closed"), 0)
        self.lacking: set[str] = set()
        """Columns that ever lacked a value."""
        self._known = False
        self._touched = np.zeros(0, np.int64)
        self._tick = 0
        self._journal: list[tuple[list[object], Arrays]] = []

    @property
    def known(self) -> bool:
        """Whether a frame has told the columns' types."""
        return self._known

    # --- the verbs

    def learn(self, frame: pl.DataFrame) -> None:
        """The columns' types, from the first frame. Raises `InvalidInput` where they cannot be aggregated."""
        if self._known:
            return
        self.keys.check(frame)
        check_names(frame, [*self.inputs.names, *(each.column for each in self.sketches)], "the column")
        schema = frame.select(list(dict.fromkeys([*self.keys.columns, *self.inputs.names]))).clear()
        self._lay_out(schema)
        self._note(["schema"], {"table": written_table(schema)})

    def slots_of(self, frame: pl.DataFrame) -> Ints:
        """Each row's slot."""
        slots = self.keys.slots_of(frame)
        fresh = self.keys.take_fresh()
        if len(fresh):
            self._reserve()
            self._note(["keys"], {"slots": fresh, "table": written_table(self.keys.values(fresh))})
        return slots

    def read(self, frame: pl.DataFrame, order: Ints) -> dict[str, tuple[Column, npt.NDArray[np.bool_] | None]]:
        """What the parts and sketches fold of each row, in this order."""
        columns = self.inputs.read(frame, order)
        for name, (_, valid) in columns.items():
            if valid is not None:
                self.lack(name)
        for sketch in self.sketches:
            check_names(frame, (sketch.column,), "the column")
            marks, present = sketch.marks(frame.get_column(sketch.column))
            columns[sketch.field.name] = (marks[order], None if present is None else present[order])
        return columns

    def put(self, merge: Merge, slots: Ints, steps: Ints, columns: Mapping[str, Column]) -> None:
        """Writes the merge back; its runs are of these slots and steps."""
        self._tick += 1
        self.tiles.write(merge, columns)
        self._touched[merge.keys] = self._tick
        runs = {f":{name}": column[merge.runs_at] for name, column in columns.items()}
        self._note(["tiles"], {"slots": slots, "steps": steps, **runs})

    def put_sketch(self, number: int, slots: Ints, steps: Ints, weights: Ints) -> Ints:
        """Adds weights to a sketch's tiles, sorted by slot and step; what they were before."""
        sketch, tiles = self.sketches[number], self.sketch_tiles[number]
        merge = tiles.merge(slots, steps)
        if merge is None:
            cut = len(slots) // 2
            parts = (slice(cut), slice(cut, None))
            return np.concatenate([self.put_sketch(number, slots[at], steps[at], weights[at]) for at in parts])
        column = tiles.column(sketch.field, merge)
        before: Ints = column[merge.runs_at]
        column[merge.runs_at] = sketch.combined(before, weights)
        tiles.write(merge, {sketch.field.name: column})
        self._note(["sketch", number], {"slots": slots, "steps": steps, "weights": weights})
        return before

    def mark(self, name: str, value: int) -> None:
        """A bound that has moved; "reached" is the step that the watermark is in, for what is only asked for
        within reach of it, "newest_ms" how far time itself has come.
        """
        if self.marks[name] != value:
            self.marks[name] = value
            self._set_floor()
            self._note(["mark", name, value], {})

    def add(self, name: str, count: int) -> None:
        if count:
            self.counts[name] += count
            self._note(["add", name, count], {})

    def lack(self, column: str) -> None:
        if column not in self.lacking:
            self.lacking.add(column)
            self._note(["lack", column], {})

    def sweep(self) -> None:
        """Drops tiles out of reach, and keys that are left with none."""
        for tiles in self._arenas:
            tiles.sweep()
        idle = self.tiles.empty(self.keys.slots())
        self.keys.release(idle)
        self.counts["expired"] += len(idle)
        self._note(["sweep"], {})

    def release(self, slots: Ints) -> None:
        """Forgets those of the slots' keys that are left with no tile."""
        idle = self.tiles.empty(slots)
        self.keys.release(idle)
        self.counts["expired"] += len(idle)
        self._note(["release"], {"slots": slots})

    def evict(self) -> None:
        """Lets the longest untouched keys go where there are too many; some more than must, so that this is not
        done with every frame.
        """
        excess = len(self.keys) - self._keys_max
        if excess <= 0:
            return
        slots = self.keys.slots()
        count = min(excess + self._keys_max // EVICTED_SHARE, len(slots) - 1)
        chosen = slots[np.argsort(self._touched[slots], kind="stable")[:count]]
        for tiles in self._arenas:
            tiles.drop(chosen)
        self.keys.release(chosen)
        self.counts["evicted"] += count
        self._note(["evict"], {})

    def remove_before(self, slots: Ints, steps: Ints) -> None:
        """Drops of each slot the tiles before a step. Slots ascend."""
        self.tiles.remove_before(slots, steps)
        for sketch, tiles in zip(self.sketches, self.sketch_tiles, strict=True):
            tiles.remove_before(slots, steps * sketch.buckets)
        self._note(["remove"], {"slots": slots, "steps": steps})

    # --- as bytes

    def take_changes(self) -> bytes:
        journal, self._journal = self._journal, []
        if not journal:
            return b""
        arrays = {f"{number}.{name}": a for number, (_, mine) in enumerate(journal) for name, a in mine.items()}
        return pack({"of": self._fingerprint, "verbs": [verb for verb, _ in journal]}, arrays)

    def apply_changes(self, changes: bytes) -> None:
        """Raises `CorruptState`, and is of no use then."""
        if not changes:
            return
        header, arrays = unpack(changes)
        verbs = self._expected(header, "verbs", list)
        split: list[dict[str, npt.NDArray[Any]]] = [{} for _ in verbs]
        try:
            for name, array in arrays.items():
                number, _, rest = name.partition(".")
                split[int(number)][rest] = array
            for verb, mine in zip(verbs, split, strict=True):
                self._replay(verb, mine)
        except (KeyError, TypeError, ValueError, IndexError, InvalidInput) as error:
            raise CorruptState(f"a change of a window cannot be applied: {error!r}") from error
        self._journal.clear()

    def snapshot(self) -> bytes:
        """All of it. What changed before is in it, whether or not it was taken."""
        slots, steps, at = self.tiles.all_tiles()
        table, key_slots, free = self.keys.dump()
        arrays: dict[str, npt.NDArray[Any]] = {"key_table": table, "key_slots": key_slots, "free": free}
        arrays |= {"slots": slots, "steps": steps, "touched": self._touched[key_slots]}
        arrays |= {f":{each.name}": self.tiles.taken(each, at) for each in self.tiles.fields}
        for number, (sketch, tiles) in enumerate(zip(self.sketches, self.sketch_tiles, strict=True)):
            arrays[f"{number}.slots"], arrays[f"{number}.steps"], at = tiles.all_tiles()
            arrays[f"{number}.weights"] = tiles.taken(sketch.field, at)
        if self._known:
            arrays["schema"] = written_table(self._schema)
        state = {"marks": self.marks, "counts": self.counts, "tick": self._tick}
        return pack({"of": self._fingerprint, "state": state, "lacking": sorted(self.lacking)}, arrays)

    def load(self, snapshot: bytes) -> None:
        """Takes over a snapshot. Raises `CorruptState`, and is of no use then."""
        header, arrays = unpack(snapshot)
        state = self._expected(header, "state", dict)
        try:
            self.keys.load(arrays["key_table"], arrays["key_slots"], arrays["free"])
            self.marks.update(state["marks"])
            self.counts.update(state["counts"])
            self._tick = state["tick"]
            self.lacking = set(self._expected(header, "lacking", list))
            self._reserve()
            self._touched[arrays["key_slots"]] = arrays["touched"]
            if "schema" in arrays:
                self._lay_out(read_table(arrays["schema"]))
                self._check_tiles(arrays["slots"], arrays["steps"])
                self.tiles.load(
                    arrays["slots"],
                    arrays["steps"],
                    {each.name: arrays[f":{each.name}"] for each in self.tiles.fields},
                )
            for number, (sketch, tiles) in enumerate(zip(self.sketches, self.sketch_tiles, strict=True)):
                slots, steps = arrays[f"{number}.slots"], arrays[f"{number}.steps"]
                self._check_tiles(slots, steps)
                tiles.load(slots, steps, {sketch.field.name: arrays[f"{number}.weights"]})
        except (KeyError, TypeError, ValueError, IndexError, InvalidInput) as error:
            raise CorruptState(f"the snapshot of a window cannot be used: {error!r}") from error

    @property
    def _arenas(self) -> tuple[Tiles, ...]:
        return (self.tiles, *self.sketch_tiles)

    @property
    def count(self) -> int:
        """Tiles held, those of sketches among them."""
        return sum(tiles.count for tiles in self._arenas)

    @property
    def size_bytes(self) -> int:
        return sum(tiles.size_bytes for tiles in self._arenas)

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(part for part, _ in self.layout)

    def _check_tiles(self, slots: Ints, steps: Ints) -> None:
        """Raises `CorruptState` where tiles are of no key, or not in the order of key and step."""
        if len(slots) != len(steps):
            raise CorruptState(f"the state has {len(slots)} slots of tiles and {len(steps)} steps")
        if len(slots) and not 0 <= slots.min() <= slots.max() < self.keys.slots_end:
            raise CorruptState("the state has tiles of keys that it does not have")
        if not ((slots[1:] > slots[:-1]) | ((slots[1:] == slots[:-1]) & (steps[1:] > steps[:-1]))).all():
            raise CorruptState("the tiles of the state are not in their order")

    def _expected(self, header: Mapping[str, object], name: str, kind: type) -> Any:
        if header.get("of") != self._fingerprint:
            raise CorruptState(
                f"the state is of another window than this: of {header.get('of')}, not of {self._fingerprint}"
            )
        if not isinstance(header.get(name), kind):
            raise CorruptState(f"the state of a window has no {name}")
        return header[name]

    def _put_sketch_again(self, number: int, arrays: Arrays) -> None:
        self._check_tiles(arrays["slots"], arrays["steps"])
        self.put_sketch(number, arrays["slots"], arrays["steps"], arrays["weights"])

    def _replay(self, verb: Sequence[Any], arrays: Arrays) -> None:
        name, *facts = verb
        replays: dict[str, Callable[..., object]] = {
            "schema": lambda: self._lay_out(read_table(arrays["table"])),
            "keys": lambda: self._adopt(arrays["slots"], read_table(arrays["table"])),
            "tiles": lambda: self._put_again(arrays),
            "sketch": lambda number: self._put_sketch_again(number, arrays),
            "remove": lambda: self.remove_before(arrays["slots"], arrays["steps"]),
            "release": lambda: self.release(arrays["slots"]),
            "mark": self.mark,
            "add": self.add,
            "lack": self.lack,
            "sweep": self.sweep,
            "evict": self.evict,
        }
        replays[name](*facts)

    def _put_again(self, arrays: Arrays) -> None:
        self._check_tiles(arrays["slots"], arrays["steps"])
        merge = self.tiles.merge(arrays["slots"], arrays["steps"])
        if merge is None:
            raise CorruptState("a change of a window spans more time than a frame can")
        columns = {}
        for each in self.tiles.fields:
            if (runs := arrays.get(f":{each.name}")) is not None:
                columns[each.name] = self.tiles.column(each, merge)
                columns[each.name][merge.runs_at] = runs
        self.put(merge, arrays["slots"], arrays["steps"], columns)

    def _adopt(self, slots: Ints, keys: pl.DataFrame) -> None:
        self.keys.adopt(slots, keys)
        self._reserve()

    def _note(self, verb: list[object], arrays: Arrays) -> None:
        self._journal.append((verb, arrays))

    # --- the layout

    def _lay_out(self, schema: pl.DataFrame) -> None:
        self._schema = schema
        self.keys.check(schema)
        self.inputs.learn(schema.schema)
        self.layout = tuple((part, part.fields) for part in dict.fromkeys(self._all_parts()))
        self.tiles = Tiles([each for _, fields in self.layout for each in fields], self.reach)
        self._set_floor()
        self._known = True
        self._reserve()

    def _all_parts(self) -> Iterable[Part]:
        yield Counted()
        for aggregate in self._aggregates:
            yield from aggregate.parts(self.inputs.kind_of(aggregate.column))

    def _set_floor(self) -> None:
        floor = self.marks["reached"] - self.reach + 1
        self.tiles.floor = floor
        for sketch, tiles in zip(self.sketches, self.sketch_tiles, strict=True):
            tiles.floor = floor * sketch.buckets

    def _reserve(self) -> None:
        end = self.keys.slots_end
        for tiles in self._arenas:
            tiles.reserve(end)
        if end > len(self._touched):
            touched = np.zeros(max(end, 2 * len(self._touched)), np.int64)
            touched[: len(self._touched)] = self._touched
            self._touched = touched
