import pytest

from penstock.cli.predict import predict
from penstock.core.errors import InvalidInput


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8000",
        "ftp://127.0.0.1",
        "http://",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:abc",
        "http://[::1",
    ],
)
def test_what_is_no_url_of_a_server_is_said(url: str) -> None:
    with pytest.raises(InvalidInput, match="is not the URL of a server"):
        predict("late", row="[1]", url=url)
