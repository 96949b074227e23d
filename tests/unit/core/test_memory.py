import gc

from penstock.core.memory import collect_seldom, sparing_environment


def test_few_arenas_unless_the_user_says_how_many() -> None:
    assert sparing_environment({"HOME": "/x"}) == {"HOME": "/x", "MALLOC_ARENA_MAX": "2"}
    assert sparing_environment({"MALLOC_ARENA_MAX": "7"}) == {"MALLOC_ARENA_MAX": "7"}


def test_what_is_there_is_looked_through_no_more_and_young_objects_seldom() -> None:
    before = gc.get_threshold()
    try:
        collect_seldom()
        assert gc.get_freeze_count() > 1000
        assert gc.get_threshold()[0] > before[0]
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
