from penstock.core.rng import unique_token


def test_unique_token() -> None:
    tokens = {unique_token(8) for _ in range(100)}
    assert len(tokens) == 100
    assert {len(bytes.fromhex(token)) for token in tokens} == {8}
