import ctypes
import gc
import os
import subprocess
import sys

import pytest

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


HELD = """
import ctypes, threading
from penstock.core.memory import give_back_memory, resident_bytes

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
worked, end = threading.Event(), threading.Event()


def work():
    for _ in range(3):  # after which malloc keeps blocks of that size
        block = libc.malloc(20 << 20)
        ctypes.memset(block, 1, 20 << 20)
        libc.free(block)
    worked.set()
    end.wait()


thread = threading.Thread(target=work)
thread.start()
worked.wait()
held = resident_bytes()
give_back_memory()
print(held - resident_bytes())
end.set()
thread.join()
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_what_a_thread_that_goes_on_has_freed_is_given_back() -> None:
    environment = sparing_environment(os.environ)
    done = subprocess.run(
        [sys.executable, "-c", HELD], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) > 15 << 20, "malloc_trim alone leaves it"
