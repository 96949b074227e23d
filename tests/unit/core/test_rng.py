import os
import threading

from penstock.core.rng import Tokens, unique_token


def test_unique_token() -> None:
    tokens = {unique_token(8) for _ in range(100)}
    assert len(tokens) == 100
    assert {len(bytes.fromhex(token)) for token in tokens} == {8}


def test_tokens_differ_and_are_as_long_as_unique_ones() -> None:
    tokens = Tokens(at_once=7)
    made = [tokens.next() for _ in range(50)]

    assert len(set(made)) == 50
    assert {len(each) for each in made} == {len(unique_token())}


def test_threads_draw_different_tokens() -> None:
    tokens, made = Tokens(at_once=3), []
    threads = [
        threading.Thread(target=lambda: made.extend(tokens.next() for _ in range(500))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(made)) == len(made) == 2000


def test_a_process_that_was_forked_makes_other_tokens() -> None:
    tokens = Tokens()
    tokens.next()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, tokens.next().encode())
        os._exit(0)
    os.waitpid(child, 0)

    assert os.read(read, 100).decode() not in {tokens.next() for _ in range(256)}
