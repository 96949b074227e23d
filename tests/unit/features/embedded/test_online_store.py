import sqlite3
from itertools import count

import pytest

from penstock.core.clock import ManualClock
from penstock.core.errors import ConfigurationError, Fenced, StorageFailed
from penstock.core.tensors import DataType
from penstock.features.embedded import EmbeddedOnlineStore, online_reader
from penstock.features.online import NO_PLACE, NO_TIME_MS, OFFSET_BITS, Progress, Update, read_record
from penstock.features.view import Feature, FeatureView, KeyColumn


def view(name="congestion", *features: str, app="app", definition="", default=0.0) -> FeatureView:
    return FeatureView(
        name=name,
        keys=(KeyColumn(name="origin", datatype=DataType.STRING),),
        features=tuple(
            Feature(name=each, datatype=DataType.FP64, default=default) for each in features or ("delay",)
        ),
        topic=f"{app}.{name}.features",
        app=app,
        definition=definition,
    )


def update(key: bytes, offset: int, said: bytes = b"", available_ms: int | None = None) -> Update:
    return Update(key, offset, offset if available_ms is None else available_ms, said or b"%d" % offset)


def told(partition=0, as_of_ms=0, next_offset=0, heard_ms=0) -> Progress:
    return Progress(partition, as_of_ms, next_offset, heard_ms)


def known(answer) -> tuple[list[bytes | None], tuple[Progress, ...]]:
    return answer.records, answer.progress


@pytest.fixture
def store(tmp_path):
    return EmbeddedOnlineStore(tmp_path, count().__next__)


def timelines(store, of, *keys: bytes) -> list[bytes | None]:
    reader = store.reader()
    try:
        return [None if each is None else read_record(each)[2] for each in reader.read(of, keys).records]
    finally:
        reader.close()


def test_gives_each_key_its_record_in_the_order_asked_for_and_again_where_asked_twice(store):
    writer = store.writer(view())
    writer.put(0, [update(b"%d" % number, number) for number in range(100)], told())

    keys = [b"99", b"no", b"0", b"99", b"", b"7"]
    assert timelines(store, view(), *keys) == [b"99", None, b"0", b"99", None, b"7"]
    assert timelines(store, view()) == []


def test_reads_more_keys_than_fit_one_statement(store):
    writer = store.writer(view())
    writer.put(0, [update(b"%d" % number, number) for number in range(5000)], told())

    assert timelines(store, view(), *[b"%d" % number for number in range(-1, 9000)]) == [
        b"%d" % number if 0 <= number < 5000 else None for number in range(-1, 9000)
    ]


def test_records_come_back_byte_for_byte(store):
    odd = bytes(range(256)) * 3 + b"\0\0"
    store.writer(view()).put(0, [update(b"\0\xff", 1, odd), update(b"\0", 2, b"\0")], told())

    assert timelines(store, view(), b"\0\xff", b"\0", b"\0\xff\0") == [odd, b"\0", None]


def test_the_last_update_of_a_key_stands_and_the_same_ones_again_change_nothing(store):
    writer = store.writer(view())
    first = [update(b"a", 1), update(b"b", 2), update(b"a", 3)]
    writer.put(0, first, told(next_offset=4, as_of_ms=30, heard_ms=7))
    writer.put(0, [update(b"a", 4), update(b"b", 5)], told(next_offset=6, as_of_ms=60, heard_ms=9))

    writer.put(0, first, told(next_offset=4, as_of_ms=30, heard_ms=8))

    reader = store.reader()
    answer = reader.read(view(), [b"a", b"b"])
    assert [read_record(each) for each in answer.records] == [(4, 4, b"4"), (5, 5, b"5")]
    assert answer.progress == (told(next_offset=6, as_of_ms=60, heard_ms=9),)


def test_partitions_are_told_apart_in_positions_and_progress(store):
    writer = store.writer(view())
    writer.put(2, [update(b"a", 5)], told(2, as_of_ms=1))
    writer.put(0, [update(b"b", 6)], told(0, as_of_ms=2))

    answer = store.reader().read(view(), [b"a", b"b"])
    assert [read_record(each)[0] for each in answer.records] == [(2 << OFFSET_BITS) + 5, 6]
    assert answer.progress == (told(0, as_of_ms=2), told(2, as_of_ms=1))


def test_time_alone_may_be_told(store):
    store.writer(view()).put(0, [], told(as_of_ms=5, next_offset=1, heard_ms=6))

    assert known(store.reader().read(view(), [b"a"])) == (
        [None],
        (told(as_of_ms=5, next_offset=1, heard_ms=6),),
    )


def test_a_topic_that_was_made_anew_begins_again(store):
    """Offsets start at 0, later than all that was seen; one that is read again brings nothing later."""
    writer = store.writer(view())
    writer.put(0, [update(b"a", 900, b"old", 50), update(b"gone", 901, b"old", 51)], told(next_offset=902))
    writer.put(1, [update(b"other", 900, b"old", 50)], told(1, next_offset=902))

    writer.put(0, [update(b"a", 0, b"new", 52)], told(next_offset=1))

    assert timelines(store, view(), b"a", b"gone", b"other") == [b"new", None, b"old"]
    assert store.reader().read(view(), []).progress == (told(next_offset=1), told(1, next_offset=902))


def test_what_history_fills_gives_way_to_the_log_and_to_later_history(store):
    writer = store.writer(view())
    writer.put(0, [update(b"live", 3, b"live")], told())

    assert (
        writer.fill([update(b"live", 0, b"old"), update(b"past", 0, b"old"), update(b"more", 0, b"old")]) == 2
    )
    assert writer.fill([update(b"past", 0, b"newer")]) == 1
    writer.put(0, [update(b"more", 4, b"live")], told())

    answer = store.reader().read(view(), [b"live", b"past", b"more"])
    places = [(3, b"live"), (-1 << OFFSET_BITS, b"newer"), (4, b"live")]
    assert [read_record(each)[::2] for each in answer.records] == places


def test_older_history_does_not_take_the_place_of_newer(store):
    writer = store.writer(view())
    assert writer.fill([update(b"a", 7, b"newer", 100), update(b"b", 8, b"newer", 10)]) == 2

    assert writer.fill([update(b"a", 3, b"older", 99), update(b"b", NO_PLACE, b"as new", 10)]) == 1

    answer = store.reader().read(view(), [b"a", b"b"])
    assert [read_record(each) for each in answer.records] == [
        ((-1 << OFFSET_BITS) + 7, 100, b"newer"),
        (NO_PLACE, 10, b"as new"),
    ]


def test_views_of_two_apps_with_one_name_stand_side_by_side(store):
    first, second = view(app="a"), view(app="b")
    writers = [store.writer(first), store.writer(second)]
    for number, writer in enumerate(writers):
        writer.put(0, [update(b"k", 1, b"of %d" % number)], told())
    for writer in writers:
        writer.put(0, [update(b"more", 2)], told())

    assert timelines(store, first, b"k", b"more") == [b"of 0", b"2"]
    assert timelines(store, second, b"k", b"more") == [b"of 1", b"2"]
    assert store.views() == [first, second]


def test_a_view_whose_topic_is_anothers_is_refused(store):
    store.writer(view("b.c", app="a"))

    with pytest.raises(
        ConfigurationError, match=r"'c' of app 'a\.b' has the topic 'a\.b\.c\.features'.*'b\.c' of app 'a'"
    ):
        store.writer(view("c", app="a.b"))


def test_a_view_that_is_computed_otherwise_begins_empty(store):
    store.writer(view(definition="1h")).put(0, [update(b"a", 1)], told())

    store.writer(view(definition="5m"))

    assert timelines(store, view(definition="1h"), b"a") == [None]
    assert timelines(store, view(definition="5m"), b"a") == [None]


def test_nothing_is_known_of_views_that_nobody_has_written(store, tmp_path):
    reader = store.reader()

    assert known(reader.read(view(), [b"a"])) == ([None], ())
    assert store.views() == []
    assert store.size(view()) == 0
    assert not list(tmp_path.iterdir()), "who reads makes no file"
    writer = store.writer(view())
    writer.put(0, [update(b"a", 1)], told())
    assert known(reader.read(view("other"), [b"a"])) == ([None], ())
    assert [each is not None for each in reader.read(view(), [b"a"]).records] == [True], "it finds the file now"


def test_a_view_that_is_defined_anew_begins_empty_and_fences_who_has_the_old_one(store):
    old, new = view("v", "delay"), view("v", "delay", "count")
    writer, reader = store.writer(old), store.reader()
    writer.put(0, [update(b"a", 1)], told())
    assert reader.read(old, [b"a"]).records != [None]

    newer = store.writer(new)

    assert known(reader.read(old, [b"a"])) == ([None], ())
    assert known(reader.read(new, [b"a"])) == ([None], ())
    with pytest.raises(Fenced, match="defined anew"):
        writer.put(0, [update(b"a", 2)], told())
    with pytest.raises(Fenced):
        writer.fill([update(b"a", 2)])
    newer.put(0, [update(b"a", 0)], told())
    assert timelines(store, new, b"a") == [b"0"]
    assert store.views() == [new]


def test_other_defaults_are_no_other_view(store):
    store.writer(view()).put(0, [update(b"a", 1)], told())

    store.writer(view(default=5.0)).put(0, [update(b"b", 2)], told())

    assert timelines(store, view(), b"a", b"b") == [b"1", b"2"]
    assert store.views() == [view(default=5.0)]
    assert store.size(view()) == 2


def test_a_write_that_fails_has_written_nothing_of_it(store):
    writer = store.writer(view())
    writer.put(0, [update(b"a", 1)], told(next_offset=2))

    (pages,) = writer._connection.execute("PRAGMA page_count").fetchone()
    writer._connection.execute(f"PRAGMA max_page_count={pages + 2}")  # as on a full disk
    with pytest.raises(StorageFailed, match="nothing was written: database or disk is full"):
        writer.put(0, [update(b"a", 2), *(update(b"b%d" % n, n, bytes(3000)) for n in range(9))], told())

    assert timelines(store, view(), b"a", b"b1") == [b"1", None]
    writer.put(0, [update(b"b", 3)], told(next_offset=4))
    assert timelines(store, view(), b"b") == [b"3"]


@pytest.mark.parametrize("cut", [0, 100, 4096, 10_000])
def test_a_damaged_file_is_told_of(store, cut):
    writer = store.writer(view())
    writer.put(0, [update(b"%d" % number, number, bytes(300)) for number in range(500)], told())
    writer.close()
    reader = store.reader()
    reader.read(view(), [b"7"])
    reader.close()
    content = store.path.read_bytes()
    store.path.write_bytes(content[:cut] + b"\xa5" * (len(content) - cut))

    with pytest.raises((StorageFailed, ConfigurationError)):
        store.reader().read(view(), [b"%d" % number for number in range(500)])


def test_a_reader_goes_on_with_a_file_that_took_the_place_of_the_one_it_had(store):
    writer, reader = store.writer(view()), store.reader()
    writer.put(0, [update(b"a", 1)], told())
    assert reader.read(view(), [b"a"]).records != [None]
    writer.close()
    for path in store.path.parent.iterdir():
        path.unlink()
    assert known(reader.read(view(), [b"a"])) == ([None], ())

    store.writer(view()).put(0, [update(b"a", 5)], told())

    assert read_record(reader.read(view(), [b"a"]).records[0])[0] == 5


def test_another_database_is_no_store(store):
    store.path.parent.mkdir()
    with sqlite3.connect(store.path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
        connection.execute("PRAGMA application_id=7")
    connection.close()

    with pytest.raises(ConfigurationError, match="is another's"):
        store.writer(view())
    with pytest.raises(ConfigurationError, match="is another's"):
        store.reader().read(view(), [b"a"])


def test_two_keys_with_one_digest_are_not_taken_for_each_other(store, monkeypatch):
    for module in ("online_reader", "online_writer"):
        monkeypatch.setattr(f"penstock.features.embedded.{module}.digests", lambda keys: tuple(map(len, keys)))
    writer = store.writer(view())
    writer.put(0, [update(b"aa", 1), update(b"bbb", 2)], told())
    writer.put(0, [update(b"cc", 3)], told())

    assert timelines(store, view(), b"aa", b"cc", b"bb", b"bbb") == [None, b"3", None, b"2"]


def test_a_key_is_not_taken_for_one_that_it_begins_with(store, monkeypatch):
    for module in ("online_reader", "online_writer"):
        monkeypatch.setattr(f"penstock.features.embedded.{module}.digests", lambda keys: (1,) * len(keys))
    store.writer(view()).put(0, [update(b"longer", 1)], told())

    assert timelines(store, view(), b"long", b"longer", b"") == [None, b"1", None]


def test_a_file_that_took_the_place_of_another_is_seen_at_once(store, tmp_path):
    other = EmbeddedOnlineStore(tmp_path / "other")
    for each, offset in ((store, 1), (other, 5)):
        writer = each.writer(view())
        writer.put(0, [update(b"a", offset)], told())
        writer.close()
    reader = store.reader()
    assert read_record(reader.read(view(), [b"a"]).records[0])[0] == 1

    other.path.replace(store.path)

    assert read_record(reader.read(view(), [b"a"]).records[0])[0] == 5


def moved_away(store, names=("",)) -> None:
    for beside in names:
        path = store.path.with_name(store.path.name + beside)
        if path.exists():
            path.replace(path.with_name(path.name + ".moved"))


@pytest.mark.parametrize("names", [("",), ("", "-wal", "-shm")])
def test_writers_and_readers_go_on_in_a_new_file_where_theirs_was_moved_away(store, caplog, names):
    """With and without what lay beside it, and while the old one is open in others."""
    one, two, filler = (store.writer(view()) for _ in range(3))
    reader = store.reader()
    one.put(0, [update(b"a", 1, b"old"), update(b"gone", 1, b"old")], told(next_offset=2))
    assert reader.read(view(), [b"a"]).records != [None]
    moved_away(store, names)
    assert known(reader.read(view(), [b"a"])) == ([None], ())

    one.put(0, [update(b"a", 2, b"new")], told(next_offset=3))
    two.put(1, [update(b"b", 3, b"new")], told(1, next_offset=4))
    assert filler.fill([update(b"c", 0, b"past"), update(b"a", 0, b"past")]) == 1
    one.put(0, [update(b"d", 4, b"new")], told(next_offset=5))

    assert timelines(store, view(), b"a", b"b", b"c", b"d", b"gone") == [b"new", b"new", b"past", b"new", None]
    assert [record is not None for record in reader.read(view(), [b"a", b"gone"]).records] == [True, False]
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert caplog.text.count("was moved or removed") == 3, "each of the three says so once"


def test_what_is_written_while_the_file_is_moved_away_is_in_the_new_one(store, monkeypatch):
    writer = store.writer(view())
    begin_anew = writer._begin_anew_where_topic_did

    def moves(*given) -> None:
        begin_anew(*given)
        monkeypatch.undo()
        moved_away(store)

    monkeypatch.setattr(writer, "_begin_anew_where_topic_did", moves)
    writer.put(0, [update(b"a", 1, b"new")], told(next_offset=2))

    assert timelines(store, view(), b"a") == [b"new"]


def test_a_clock_that_was_ahead_for_a_while_leaves_no_trace(store):
    writer = store.writer(view())
    for offset, heard_ms in ((1, 1000), (2, 10**12), (3, 3000), (2, 10**12)):
        writer.put(0, [], told(next_offset=offset, heard_ms=heard_ms))

    assert store.reader().read(view(), []).progress == (told(next_offset=3, heard_ms=3000),)


def test_a_view_s_time_is_what_was_told_last_and_not_before_its_first_event(store):
    writer = store.writer(view())
    for offset, as_of_ms in ((1, 500), (2, 300), (1, 900), (3, NO_TIME_MS)):
        writer.put(0, [], told(next_offset=offset, as_of_ms=as_of_ms))

    assert store.reader().read(view(), []).progress == (told(next_offset=3, as_of_ms=300),)


def test_records_are_read_at_once_as_far_as_their_bytes_allow(store, monkeypatch):
    """Small ones and large ones among each other, and more than SQLite gives at once."""
    monkeypatch.setattr("penstock.features.embedded.online_reader.BYTES_AT_ONCE", 20_000)
    sizes = [10] * 300 + [9_000] * 40 + [10] * 300 + [30_000]
    said = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    keys = [b"%d" % number for number in range(len(sizes))]
    store.writer(view()).put(0, list(map(update, keys, range(len(keys)), said)), told(next_offset=9))
    reader = store.reader()
    reader.read(view(), [])
    reader._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
    asked = []
    some = online_reader._read_some

    def counted(connection, at, keys):
        found = some(connection, at, keys)
        asked.append(sum(len(each) for each in found.records if each is not None))
        return found

    monkeypatch.setattr(online_reader, "_read_some", counted)
    for _ in range(2):
        answer = reader.read(view(), keys)
        assert [read_record(each)[2] for each in answer.records] == said
        assert answer.progress == (told(next_offset=9),)
    assert max(asked) <= 100_000
    assert len(asked) < 250


def test_what_has_changed_is_told_to_who_says_what_it_has_seen(store):
    writer, reader = store.writer(view()), store.reader()
    writer.put(0, [update(b"\x01", 1), update(b"\x02", 2)], told(next_offset=3))
    first = reader.read(view(), [b"\x01"])
    assert first.changed is None, "who has seen nothing knows nothing"

    writer.put(0, [update(b"\x02", 3)], told(next_offset=4))
    writer.fill([update(b"\x02", -1), update(b"\x03", -1)])
    second = reader.read(view(), [b"\x01"], first.seen)
    writer.put(0, [], told(as_of_ms=7, next_offset=4))
    third = reader.read(view(), [], second.seen)

    assert sorted(second.changed) == [b"\x02", b"\x03"], "what the log has is not filled"
    assert (third.changed, third.seen) == ((), second.seen)
    assert third.progress[0].as_of_ms == 7


def test_anything_may_have_changed_where_it_is_not_known_what(store, monkeypatch):
    monkeypatch.setattr("penstock.features.embedded.online_writer.CHANGES_KEPT", 3)
    monkeypatch.setattr("penstock.features.embedded.online_writer.CHANGED_BYTES_MAX", 2)
    writer, reader = store.writer(view()), store.reader()
    writer.put(0, [update(b"\x01", 1)], told(next_offset=2))
    seen = reader.read(view(), []).seen

    for number in range(3):
        writer.put(0, [update(b"\x01", number + 2)], told(next_offset=number + 3))
    kept = reader.read(view(), [], seen)
    writer.put(0, [update(b"\x01", 5)], told(next_offset=6))
    too_many = reader.read(view(), [], seen)
    writer.put(0, [update(key, 6) for key in (b"\x01", b"\x02", b"\x03")], told(next_offset=7))
    too_large = reader.read(view(), [], too_many.seen)
    writer.put(0, [update(b"\x01", 0, available_ms=100)], told(next_offset=1))
    topic_anew = reader.read(view(), [b"\x02"], too_large.seen)

    assert kept.changed == [b"\x01"] * 3
    assert (too_many.changed, too_large.changed, topic_anew.changed) == (None, None, None)
    assert topic_anew.records == [None]


def test_another_definition_and_another_file_are_other_things_to_have_seen(store):
    reader = store.reader()
    store.writer(view()).put(0, [update(b"\x01", 1)], told(next_offset=2))
    seen = reader.read(view(), []).seen
    store.writer(view(definition="other")).close()
    gone = reader.read(view(), [b"\x01"], seen)
    store.writer(view()).put(0, [update(b"\x02", 1)], told(next_offset=2))
    anew = reader.read(view(), [b"\x01"], seen)
    store.path.rename(store.path.with_name("moved"))
    reader.look()
    no_file = reader.read(view(), [b"\x02"], anew.seen)

    assert [gone.changed, anew.changed, no_file.changed] == [None, None, None]
    assert [gone.records, anew.records, no_file.records] == [[None]] * 3


def test_it_is_current_until_somebody_writes_anything(store):
    reader = store.reader()
    reader.look()
    nothing = reader.read(view(), []).seen
    assert reader.is_current(view(), nothing), "there is still no file"
    writer = store.writer(view())
    reader.look()
    assert not reader.is_current(view(), nothing)

    for act in (
        lambda: writer.put(0, [update(b"\x01", 1)], told(next_offset=2)),
        lambda: writer.put(0, [], told(as_of_ms=1, next_offset=2)),
        lambda: writer.fill([update(b"\x02", -1)]),
        lambda: store.writer(view("other")).close(),
    ):
        seen = reader.read(view(), []).seen
        reader.look()
        assert reader.is_current(view(), seen)
        act()
        reader.look()
        assert not reader.is_current(view(), seen)


def test_that_the_file_is_another_is_seen_after_a_moment(tmp_path):
    clock = ManualClock()
    store = EmbeddedOnlineStore(tmp_path, clock.monotonic)
    store.writer(view()).put(0, [update(b"\x01", 1)], told())
    reader = store.reader()
    seen = reader.read(view(), []).seen
    store.path.rename(store.path.with_name("moved"))

    clock.advance(0.019)
    reader.look()
    assert reader.is_current(view(), seen)
    clock.advance(0.002)
    reader.look()
    assert not reader.is_current(view(), seen)
    assert reader.read(view(), [b"\x01"], seen).records == [None]
