"""What is made of a process's last words: as Python 3.11 to 3.13 write them."""

import faulthandler
import sysconfig
from pathlib import Path

import pytest

from penstock.streams.last_words import SILENT, raised_words, understood

LIBRARY = sysconfig.get_path("stdlib")
CRASH = f"""Fatal Python error: Segmentation fault

Thread 0x00007fd90d3fcb80 (most recent call first):
  File "{LIBRARY}/threading.py", line 327 in wait

Current thread 0x00007f39ed7bb6c0 (most recent call first):
  File "{LIBRARY}/ctypes/__init__.py", line 519 in string_at
  File "/home/ada/app.py", line 9 in score
  File "{LIBRARY}/threading.py", line 982 in run

Extension modules: numpy.core._multiarray_umath (total: 1)
"""
HANG = f"""Thread 0x00007f39ed7bb6c0 (most recent call first):
  File "{LIBRARY}/re/__init__.py", line 166 in match
  File "/home/ada/app.py", line 7 in clean
  File "/home/ada/app.py", line 70 in outer

Current thread 0x00007fd90d3fcb80 (most recent call first):
  File "{LIBRARY}/threading.py", line 327 in wait
"""
ENGINE = 0x00007F39ED7BB6C0


def test_a_crash_is_told_with_its_signal_and_where_it_was() -> None:
    why = understood(CRASH, ENGINE, 30)
    assert why == ("crashed", "Segmentation fault, in score (app.py, line 9)", True)


def test_what_hung_is_told_with_where_it_was() -> None:
    why = understood(HANG, ENGINE, 2.5)
    detail = "not done within 2.5 s, and held the interpreter's lock, in clean (app.py, line 7)"
    assert why == ("hung", detail, True)


def test_a_thread_that_tells_of_itself_alone_is_the_engines() -> None:
    words = f"""Stack (most recent call first):
  File "{LIBRARY}/re/__init__.py", line 166 in match
  File "/home/ada/app.py", line 7 in clean
"""
    why = understood(words, ENGINE, 2.5)
    assert why == (
        "hung",
        "not done within 2.5 s, and held the interpreter's lock, in clean (app.py, line 7)",
        True,
    )


def test_who_said_nothing_crashed() -> None:
    assert understood("", ENGINE, 30) == ("crashed", SILENT, False)


@pytest.mark.parametrize("words", ["Fatal Python error: Aborted\n", "Fatal Python error: Aborted\n\nThread 0x"])
def test_half_of_it_is_enough_and_does_not_say_whose_doing_it_was(words: str) -> None:
    assert understood(words, ENGINE, 30) == ("crashed", "Aborted", False)


def test_a_fatal_signal_of_another_thread_is_not_the_doing_of_what_was_at_work() -> None:
    why = understood(CRASH, 0x00007FD90D3FCB80, 30)
    assert why == ("crashed", "Segmentation fault, in another thread", False)


def test_an_engine_that_ended_by_an_exception_says_by_which() -> None:
    words = raised_words(KeyboardInterrupt("that\nis it"))
    why = understood(words, ENGINE, 30)
    assert why == ("crashed", "the engine ended by KeyboardInterrupt: that is it", False)


def test_a_place_in_a_library_is_better_than_none() -> None:
    words = (
        f'Thread 0x00007f39ed7bb6c0 (most recent call first):\n  File "{LIBRARY}/re.py", line 166 in match\n'
    )
    assert understood(words, ENGINE, 1)[1].endswith("in match (re.py, line 166)")


def test_this_python_writes_them_so(tmp_path: Path) -> None:
    import threading

    with (tmp_path / "words").open("w") as file:
        faulthandler.dump_traceback(file, all_threads=True)
    why = understood((tmp_path / "words").read_text(), threading.get_ident(), 1)
    assert f"in {test_this_python_writes_them_so.__name__} (test_last_words.py, line " in why[1]
