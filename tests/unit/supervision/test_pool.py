"""What the pool promises, one example each."""

import msgspec
import pytest

from penstock.supervision.actions import Action, End, Kill, Role, Say, Spawn
from penstock.supervision.places import WorkerState
from penstock.supervision.pool import Pool, PoolConfig


def config(workers: int) -> PoolConfig:
    return PoolConfig(workers=workers, start_timeout_s=40.0, silence_s=15.0, drain_timeout_s=35.0)


def standing(workers: int) -> Pool:
    """A pool whose workers, lives 1 to `workers`, have come to stand at 0 s."""
    pool = Pool(config(workers))
    pool.start(0.0)
    for life in range(1, workers + 1):
        assert pool.ready(life, 0.0) == []
    pool.tick(0.0)
    return pool


def orders(actions: list[Action]) -> list[Action]:
    return [action for action in actions if not isinstance(action, Say)]


def said(actions: list[Action]) -> str:
    return " | ".join(action.text for action in actions if isinstance(action, Say))


def test_a_first_start_that_fails_is_the_end_of_all() -> None:
    pool = Pool(config(2))
    assert pool.start(0.0) == [Spawn(1, 1, 0), Spawn(2, 2, 0)]
    pool.failed(1, "cannot start: no such model")
    assert pool.exited(1, "ended with status 1", 1.0) == [Kill(2)]
    assert pool.doomed
    assert pool.ready(2, 1.0) == [], "it stands while it is being killed"
    assert pool.doomed
    assert pool.exited(2, "was ended by SIGKILL", 1.1) == []
    assert pool.empty
    assert pool.tick(60.0) == []


def test_one_that_ends_is_started_anew_with_back_off() -> None:
    pool = standing(2)
    actions = pool.exited(1, "was ended by SIGSEGV", 20.0)
    assert orders(actions) == [Spawn(3, 1, 0)]
    assert said(actions) == "worker 1 was ended by SIGSEGV; it is started anew"
    actions = pool.exited(3, "was ended by SIGSEGV", 21.0)
    assert orders(actions) == []
    assert "2 times in a row; next start in 0.5 s" in said(actions)
    assert pool.tick(21.4) == []
    assert pool.tick(21.5) == [Spawn(4, 1, 0)]
    (one, two) = pool.views()
    assert (one.restarts, one.failures, one.state) == (2, 2, WorkerState.STARTING)
    assert (two.restarts, two.failures, two.cause) == (0, 0, "")


def test_one_that_says_nothing_is_killed() -> None:
    pool = standing(2)
    for second in range(1, 16):
        pool.heard(1, float(second))
        assert pool.tick(float(second)) == []
    assert pool.serving(15.0) == [1]
    pool.heard(1, 16.0)
    assert pool.tick(16.0) == [Kill(2)]
    actions = pool.exited(2, "was ended by SIGKILL", 16.1)
    assert "worker 2 said nothing for 15 s and was killed" in said(actions)
    assert orders(actions) == [Spawn(3, 2, 0)]


def test_one_for_streams_may_say_nothing_for_as_long_as_a_function_may_take() -> None:
    pool = Pool(msgspec.structs.replace(config(1), stream_silence_s=40.0))
    pool.start(0.0)
    pool.ready(1, 0.0)
    assert pool.want_streams(1, 0.0) == [Spawn(2, 1, 0, Role.STREAM)]
    pool.ready(2, 0.0)
    for second in range(41):
        pool.heard(1, float(second))
        assert pool.tick(float(second)) == []
    pool.heard(1, 41.0)
    assert pool.tick(41.0) == [Kill(2)]
    assert "stream worker 1 said nothing for 40 s and was killed" in said(
        pool.exited(2, "was ended by SIGKILL", 41.1)
    )


def test_a_supervisor_that_was_away_takes_nobody_for_silent() -> None:
    pool = standing(1)
    assert pool.tick(600.0) == []
    pool.heard(1, 600.0)
    assert pool.tick(600.25) == []


def test_one_that_does_not_stand_in_time_is_killed() -> None:
    pool = Pool(config(1))
    pool.start(0.0)
    assert pool.tick(40.0) == []
    assert pool.tick(40.1) == [Kill(1)]
    pool.exited(1, "was ended by SIGKILL", 40.2)
    assert pool.doomed
    (view,) = pool.views()
    assert view.cause == "did not stand within 40 s and was killed"


def test_one_that_does_not_drain_in_time_is_killed() -> None:
    pool = standing(1)
    assert pool.stop(100.0) == [End(1)]
    assert pool.stop(101.0) == []
    assert pool.tick(135.0) == []
    assert pool.tick(135.1) == [Kill(1)]
    assert pool.exited(1, "was ended by SIGKILL", 136.0) == []
    assert pool.empty


def test_a_kill_is_repeated_until_the_process_has_ended() -> None:
    """The first one may come before there is a process."""
    pool = standing(1)
    pool.exited(1, "ended", 20.0)
    assert pool.stop(20.0) == [Kill(2)]
    assert pool.tick(20.25) == [Kill(2)]


def test_a_reload_replaces_one_after_the_other() -> None:
    pool = standing(2)
    assert pool.reload(config(2), 1.0) == [Spawn(3, 1, 1)]
    assert pool.ready(3, 2.0) == [End(1), Spawn(4, 2, 1)]
    assert pool.exited(1, "ended with status 0", 2.5) == []
    actions = pool.ready(4, 3.0)
    assert orders(actions) == [End(2)]
    assert "every worker is new" in said(actions)
    assert pool.proven_generation == 1


@pytest.mark.parametrize("count", [1, 3])
def test_a_reload_changes_how_many_there_are(count: int) -> None:
    pool = standing(2)
    actions = pool.reload(config(count), 1.0)
    while starts := [action for action in actions if isinstance(action, Spawn)]:
        actions = [each for start in starts for each in pool.ready(start.life, 2.0)]
    for life in (1, 2):
        pool.exited(life, "ended with status 0", 3.0)
    assert len(pool.serving(2.0)) == count
    assert [(view.number, view.generation) for view in pool.views()] == [(n + 1, 1) for n in range(count)]


def test_those_that_are_too_many_are_shown_while_they_drain() -> None:
    pool = standing(2)
    pool.reload(config(1), 1.0)
    assert orders(pool.ready(3, 2.0)) == [End(1), End(2)]
    assert [(view.number, view.state) for view in pool.views()] == [
        (1, WorkerState.DRAINING),
        (1, WorkerState.SERVING),
        (2, WorkerState.DRAINING),
    ]


def test_a_reload_that_fails_changes_nothing() -> None:
    pool = standing(2)
    pool.reload(config(1), 1.0)
    pool.failed(3, "(pid 7) cannot start: broken")
    actions = pool.exited(3, "ended with status 1", 2.0)
    assert orders(actions) == []
    assert "do not work, the old ones stay: worker 1 (pid 7) cannot start: broken" in said(actions)
    assert len(pool.serving(2.0)) == 2
    assert orders(pool.exited(2, "crashed", 30.0)) == [Spawn(4, 2, 0)], "two workers, as before the reload"


def test_the_reload_after_one_that_failed_is_a_generation_of_its_own() -> None:
    pool = standing(1)
    pool.reload(config(1), 1.0)
    pool.exited(2, "ended with status 1", 2.0)
    assert pool.reload(config(1), 3.0) == [Spawn(3, 1, 2)]


def test_a_reload_that_fails_midway_is_taken_back() -> None:
    pool = standing(2)
    pool.reload(config(2), 1.0)
    pool.ready(3, 2.0)
    actions = pool.exited(4, "ended with status 1", 3.0)
    assert orders(actions) == [Spawn(5, 1, 0)]
    actions = pool.ready(5, 4.0)
    assert orders(actions) == [End(3)]
    assert "from before again" in said(actions)


def test_going_back_is_tried_once() -> None:
    """The app file is read anew at each start: the old settings may not work with it either."""
    pool = standing(2)
    pool.reload(config(2), 1.0)
    pool.ready(3, 2.0)
    pool.exited(4, "ended with status 1", 3.0)
    actions = pool.exited(5, "ended with status 1", 3.0)
    assert orders(actions) == []
    assert "who serves goes on" in said(actions)
    assert sorted(pool.serving(3.0)) == [2, 3]


def test_a_new_worker_that_does_not_stand_fails_the_reload() -> None:
    pool = standing(1)
    assert pool.reload(config(2), 1.0) == [Spawn(2, 2, 1), Spawn(3, 1, 1)]
    actions = pool.exited(2, "ended with status 1", 2.0)
    assert set(orders(actions)) == {Kill(3)}
    assert pool.ready(3, 2.0) == []
    assert pool.exited(3, "was ended by SIGKILL", 2.1) == []
    assert [(view.number, view.life) for view in pool.views()] == [(1, 1)]


def test_a_reload_during_a_reload_starts_over() -> None:
    pool = standing(2)
    pool.reload(config(2), 1.0)
    assert pool.reload(config(2), 1.5) == [Kill(3)]
    assert pool.ready(3, 1.6) == [], "it is about to end"
    assert pool.exited(3, "was ended by SIGKILL", 1.7) == [Spawn(4, 1, 2)]
    assert pool.ready(4, 2.0) == [End(1), Spawn(5, 2, 2)]
    assert "every worker is new" in said(pool.ready(5, 3.0))


def test_whose_successor_is_on_its_way_is_not_started_anew() -> None:
    pool = standing(1)
    pool.reload(config(1), 1.0)
    actions = pool.exited(1, "crashed", 2.0)
    assert orders(actions) == []
    assert said(pool.ready(2, 3.0)) != ""
    assert pool.serving(3.0) == [2]


def test_where_that_successor_fails_the_old_is_started_anew() -> None:
    pool = standing(1)
    pool.reload(config(1), 1.0)
    pool.exited(1, "crashed", 2.0)
    pool.exited(2, "ended with status 1", 3.0)
    assert pool.tick(3.25) == [Spawn(3, 1, 0)]


def test_a_stop_during_a_reload() -> None:
    pool = standing(2)
    pool.reload(config(2), 1.0)
    assert pool.stop(2.0) == [End(1), End(2), Kill(3)]
    assert pool.reload(config(2), 2.1) == []
    assert pool.ready(3, 2.1) == []
    for life in (3, 1, 2):
        assert pool.exited(life, "ended", 3.0) == []
    assert pool.empty
    assert pool.tick(60.0) == []


def streaming(workers: int, streams: int) -> Pool:
    """Likewise, with workers for streams after them."""
    pool = standing(workers)
    pool.want_streams(streams, 0.0)
    for life in range(workers + 1, workers + streams + 1):
        assert pool.ready(life, 0.0) == []
    return pool


def test_workers_for_streams_are_started_when_there_are_streams() -> None:
    pool = standing(1)
    assert pool.want_streams(0, 0.0) == []
    assert pool.want_streams(2, 0.0) == [Spawn(2, 1, 0, Role.STREAM), Spawn(3, 2, 0, Role.STREAM)]
    assert pool.want_streams(2, 0.0) == []
    assert pool.ready(2, 1.0) == []
    assert pool.serving(1.0) == [1], "they answer no requests"


def test_a_worker_for_streams_that_ends_is_named_and_started_anew() -> None:
    pool = streaming(1, 1)
    actions = pool.exited(2, "was ended by SIGKILL", 20.0)
    assert orders(actions) == [Spawn(3, 1, 0, Role.STREAM)]
    assert said(actions) == "stream worker 1 was ended by SIGKILL; it is started anew"
    assert [(view.role, view.number) for view in pool.views()] == [(Role.SERVE, 1), (Role.STREAM, 1)]


def test_workers_for_streams_that_are_too_many_drain() -> None:
    pool = streaming(1, 2)
    assert pool.want_streams(1, 1.0) == [End(3)]
    assert pool.exited(3, "ended with status 0", 2.0) == []
    assert pool.tick(3.0) == []


def test_a_reload_replaces_workers_for_streams_too() -> None:
    pool = streaming(1, 1)
    assert pool.reload(config(1), 1.0) == [Spawn(3, 1, 1)]
    assert pool.want_streams(2, 2.0) == [Spawn(4, 2, 1, Role.STREAM)]
    assert pool.ready(3, 2.0) == [End(1), Spawn(5, 1, 1, Role.STREAM)]
    assert pool.exited(1, "ended with status 0", 2.5) == []
    assert orders(pool.ready(5, 3.0)) == [End(2)]
    assert "every worker is new" in said(pool.ready(4, 3.0))


def test_a_reload_without_streams_lets_their_workers_go() -> None:
    pool = streaming(1, 1)
    assert pool.reload(config(1), 1.0) == [Spawn(3, 1, 1)]
    assert pool.want_streams(0, 2.0) == []
    actions = pool.ready(3, 2.0)
    assert orders(actions) == [End(1), End(2)]
    assert "every worker is new" in said(actions)


def test_a_reload_that_fails_keeps_the_workers_for_streams() -> None:
    pool = streaming(2, 1)
    assert pool.reload(config(2), 1.0) == [Spawn(4, 1, 1)]
    pool.want_streams(0, 2.0)
    assert pool.ready(4, 2.0) == [End(1), Spawn(5, 2, 1)]
    actions = pool.exited(5, "ended with status 1", 3.0)
    assert "the old ones stay" in said(actions)
    assert End(3) not in actions
    pool.exited(1, "ended with status 0", 3.5)
    actions = pool.exited(3, "was ended by SIGKILL", 4.0)
    assert Spawn(7, 1, 0, Role.STREAM) in actions
