"""Who is in the sample of any project, and which records each source has of them, as the cells of its files.

Every record is a function of seed, source and number, so a column that relates to another source can look up what that
one says. A source does not know one key in twelve, and every key is known to at least one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from etl_assets.project.columns import Bounded, Column, ColumnType, Relationship, plain_name
from etl_assets.project.contract import Contract, Source
from etl_assets.project.dialect import Dialect
from etl_assets.project.null_words import declared_nulls, text_nulls
from etl_assets.samples.chances import Counting, Dice
from etl_assets.samples.plausible import Maker, bad_text, maker_of, narrowed, plain_text
from etl_assets.samples.spelling import Value, can_hold, cell_text, has_seconds, null_text

_MISSING_ONE_IN = 12
_NULL_ONE_IN = 12
# Records of a key in a source with many.
_MOST_RECORDS = 6
_TRIES = 50
_DIRTY_SIDES = 1_000_000


@dataclass(frozen=True)
class Field:
    """A column of a file: its header, and the contract's column or a part of a key.

    Of a key: which of how many parts, and the source whose own id it is; empty for the key that all share.
    """

    header: str
    column: Column | None = None
    part: int = 0
    part_count: int = 1
    ids_of: str = ""


@dataclass(frozen=True)
class _Plan:
    """What is worked out once for a column: what makes its values, and counts them; and whether it may be null."""

    column: Column
    dialect: Dialect
    make: Maker
    count: Maker
    is_needed: bool
    is_record_key: bool
    nulls: frozenset[str]


@dataclass(frozen=True)
class AnySample:
    """A sample of `rows` keys of the contract; `dirty` is the share of records with a flaw.

    `mapped` are the further columns of sources whose exports are key maps of other sources.
    """

    contract: Contract
    rows: int
    seed: int
    dirty: float = 0.0
    mapped: Mapping[str, Sequence[Field]] = field(default_factory=dict)

    def require_possible(self) -> None:
        """ValueError when a column that may not be null has no value that can be made, or keys are too short."""
        if len(self.key_of(self.rows - 1)) > self.contract.key.max_chars:
            raise ValueError(f"keys of {self.contract.key.max_chars} characters are too short for {self.rows} rows")
        bad = [
            f"{source.name}.{column.name}"
            for source in self.contract.sources
            for column in self._columns_of(source)
            if column.name in source.needed and not self._has_value(source, column)
        ]
        if bad:
            raise ValueError(
                f"no value can be made for {', '.join(bad)}: expected bounds with a value between them, and a pattern "
                "of literals, classes, groups and repetitions"
            )

    def _has_value(self, source: Source, column: Column) -> bool:
        plan = self._plans[source.name, column.name]
        if plan.is_record_key:
            return plan.count(Counting(0)) is not None
        return self._found(plan, 0, 0, Dice(self.seed))[1] is not None

    def fields_of(self, source: Source) -> list[Field]:
        """The columns of the source's files; a header that two columns of the contract share is there once."""
        ids_of, count = source.name if source.key_map else "", len(source.key_headers)
        keys = [Field(header, None, part, count, ids_of) for part, header in enumerate(source.key_headers)]
        columns = [Field(column.headers[0], column) for column in self._columns_of(source)]
        by_name: dict[str, Field] = {}
        for one in [*keys, *self.mapped.get(source.name, ()), *columns]:
            by_name.setdefault(one.header.strip().lower(), one)
        return list(by_name.values())

    def key_part(self, one: Field, number: int) -> str:
        """The cell of a column that is a part of the key of a number, or of the id that a source has for it."""
        parts, kept = self._parts_of(one.ids_of, number), one.part_count - 1
        # A file with fewer columns for it has several parts in the last one.
        spread = parts if kept == len(parts) - 1 else [*parts[:kept], "/".join(parts[kept:])]
        return spread[one.part]

    def key_of(self, number: int) -> str:
        """The key of a number, as sources have it whose key is one column."""
        return "/".join(self._parts_of("", number))

    def records(self, source: Source, number: int) -> Iterator[list[str]]:
        """The cells of each record that the source has of a number, flawed ones too, in the order of its fields."""
        for place in range(self._record_count(source, number)):
            cells = self._cells(source, number, place)
            if cells is not None:
                yield from self._flawed(source, cells, number, place)

    @cached_property
    def _key_names(self) -> Mapping[str, tuple[str, int]]:
        """What the key is called and how many parts it has, and the same of the ids that sources have of their own."""
        sources = self.contract.sources
        ids = {
            source.name: (plain_name(source.key_map.from_[-1]), max(len(source.key_headers), len(source.key_map.from_)))
            for source in sources
            if source.key_map
        }
        counts = [len(source.key_map.to if source.key_map else source.key_headers) for source in sources]
        return {"": (self.contract.key.name, max(counts)), **ids}

    @cached_property
    def _promises(self) -> Mapping[str, Bounded]:
        return {column.name: column for column in self.contract.profile}

    @cached_property
    def _fields(self) -> Mapping[str, list[Field]]:
        return {source.name: self.fields_of(source) for source in self.contract.sources}

    @cached_property
    def _narrowed(self) -> Mapping[str, list[Column]]:
        return {
            source.name: [narrowed(column, self._promises.get(column.name)) for column in source.columns]
            for source in self.contract.sources
        }

    @cached_property
    def _plans(self) -> Mapping[tuple[str, str], _Plan]:
        return {
            (source.name, column.name): _plan_of(source, column)
            for source in self.contract.sources
            for column in self._columns_of(source)
        }

    @cached_property
    def _known_whole(self) -> frozenset[str]:
        """The sources that know every key: the only one, those with a column that the profile requires, and maps."""
        required = {
            source.name
            for source in self.contract.sources
            if any(column.required and column.name in self._promises for column in self._columns_of(source))
        }
        required |= set(self.mapped)
        return frozenset(required if len(self.contract.sources) > 1 else self.contract.source_names)

    def _columns_of(self, source: Source) -> list[Column]:
        return self._narrowed[source.name]

    def _parts_of(self, ids_of: str, number: int) -> list[str]:
        """The parts of a key, or of a source's own id. The last one tells it; those before are those of ten keys."""
        (name, count), shortest = self._key_names[ids_of], len(str(self.rows - 1))
        prefix = f"{name.split('_')[0][:4]}-"
        if {"email", "mail"} & set(name.split("_")):
            last = f"user{number:0{shortest}}@alpine.example"
        else:
            last = f"{prefix}{number:0{max(shortest, 6)}}"
        parts = [*(f"{prefix}{number // 10}" for _ in range(count - 1)), last]
        # A key that is too long has its number only.
        return parts if len("/".join(parts)) <= self.contract.key.max_chars else [str(number)] * count

    def _knows(self, source: Source, number: int) -> bool:
        if source.name in self._known_whole or not self._misses(source.name, number):
            return True
        names = self.contract.source_names
        return source.name == names[0] and all(
            name not in self._known_whole and self._misses(name, number) for name in names
        )

    def _misses(self, source: str, number: int) -> bool:
        return Dice(self.seed, "missing", source, number).pick(_MISSING_ONE_IN) == 0

    def _record_count(self, source: Source, number: int) -> int:
        if not self._knows(source, number):
            return 0
        if not source.has_many:
            return 1
        return 1 + Dice(self.seed, "records", source.name, number).pick(_MOST_RECORDS)

    def _cells(self, source: Source, number: int, place: int) -> list[str] | None:
        """The cells of one record; None when a column that may not be null has no value left for it."""
        counting = Counting(number * _MOST_RECORDS + place)
        cells = []
        for one in self._fields[source.name]:
            if one.column is None:
                cells.append(self.key_part(one, number))
                continue
            plan = self._plans[source.name, one.column.name]
            dice = Dice(self.seed, source.name, one.column.name, number, place)
            if plan.is_record_key:
                text = self._text(plan, plan.count(counting), dice)
            else:
                text = self._found(plan, number, place, dice)[1]
            if text is None and plan.is_needed:
                return None
            cells.append(null_text(source.csv, dice) if text is None else text)
        return None if counting.left and source.row_key else cells

    def _found(self, plan: _Plan, number: int, place: int, dice: Dice) -> tuple[Value | None, str | None]:
        """The value of a column that names no record, and its text; both are None where it has none."""
        column = plan.column
        if not plan.is_needed and not column.unique and dice.pick(_NULL_ONE_IN) == 0:
            return None, None
        for _ in range(_TRIES):
            value = self._value(plan, number, place, dice)
            text = self._text(plan, value, dice)
            if text is not None:
                # An encoding may lack letters of a text.
                return (text if isinstance(value, str) else value), text
            if value is None or column.unique:
                break
        return None, None

    def _value(self, plan: _Plan, number: int, place: int, dice: Dice) -> Value | None:
        if plan.column.relationships is not None:
            return self._related(plan.column.relationships, dice)
        if not plan.column.unique:
            return plan.make(dice)
        counting = Counting(number * _MOST_RECORDS + place)
        value = plan.count(counting)
        return None if counting.left else value

    def _related(self, relationship: Relationship, dice: Dice) -> Value | None:
        """A value that the related source has, of a key that it knows. None for a chain, which might not end."""
        target = self.contract.source(relationship.to)
        is_key = relationship.column in ("", self.contract.key.name)
        plan = None if is_key else self._plans[target.name, relationship.column]
        if plan is not None and (plan.column.relationships or plan.is_record_key):
            return None
        for _ in range(_TRIES):
            number = dice.pick(self.rows)
            if not self._knows(target, number):
                continue
            if plan is None:
                return self.key_of(number)
            value, _text = self._found(plan, number, 0, Dice(self.seed, target.name, plan.column.name, number, 0))
            if value is not None:
                return value
        return None

    def _text(self, plan: _Plan, value: Value | None, dice: Dice) -> str | None:
        """The value as the source writes it; None when it cannot, or would be read as null."""
        if value is None:
            return None
        column, dialect = plan.column, plan.dialect
        text = cell_text(value, column, dialect, dice)
        if not can_hold(text, dialect) and not (column.values or column.pattern or column.relationships):
            text = plain_text(text)
        return text if can_hold(text, dialect) and text.strip() not in plan.nulls else None

    def _flawed(self, source: Source, cells: list[str], number: int, place: int) -> Iterator[list[str]]:
        """The record, or what became of it: without its key, with a bad cell, too short, or there twice."""
        dice = Dice(self.seed, "flaw", source.name, number, place) if self.dirty else None
        if dice is None or dice.pick(_DIRTY_SIDES) >= self.dirty * _DIRTY_SIDES:
            yield cells
            return
        fields = self._fields[source.name]
        bad = [(at, bad_text(f.column)) for at, f in enumerate(fields) if f.column and bad_text(f.column)]
        flaw = dice.pick(4)
        if flaw == 0:
            yield ["" if one.column is None else cell for one, cell in zip(fields, cells, strict=True)]
        elif flaw == 1 and bad:
            at, text = bad[dice.pick(len(bad))]
            yield [*cells[:at], text, *cells[at + 1 :]]
        elif flaw == 2 and len(cells) > 1:
            yield cells[:-1]
        else:
            yield from (cells, cells)


def _plan_of(source: Source, column: Column) -> _Plan:
    return _Plan(
        column,
        source.csv,
        maker_of(column),
        maker_of(_countable(column, source)),
        column.name in source.needed or column.required,
        column.name in source.row_key,
        frozenset({"", *(word.strip() for word in _nulls_of(source, column))}),
    )


def _nulls_of(source: Source, column: Column) -> tuple[str, ...]:
    """The words that are read as null there, and might be values."""
    is_text = column.type is ColumnType.TEXT
    return text_nulls(source.csv, column) if is_text else declared_nulls(source.csv, column) or ()


def _countable(column: Column, source: Source) -> Column:
    """The column as it is counted: moments whose text has no seconds differ by the day."""
    is_day = column.type is ColumnType.TIMESTAMP and not has_seconds(source.csv)
    return column.model_copy(update={"type": ColumnType.DATE}) if is_day else column
