from penstock.core.memory import sparing_environment


def test_few_arenas_unless_the_user_says_how_many() -> None:
    assert sparing_environment({"HOME": "/x"}) == {"HOME": "/x", "MALLOC_ARENA_MAX": "2"}
    assert sparing_environment({"MALLOC_ARENA_MAX": "7"}) == {"MALLOC_ARENA_MAX": "7"}
