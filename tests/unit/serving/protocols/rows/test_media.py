"""Content types and what a batch is answered as."""

import pytest

from penstock.core.errors import Unsupported
from penstock.serving.protocols.rows.media import Form, answer_form, is_batch, request_form


@pytest.mark.parametrize(
    ("given", "form"),
    [
        (None, Form.JSON),
        (b"application/json", Form.JSON),
        (b"Application/JSON; charset=UTF-8", Form.JSON),
        (b'application/json;charset="utf-8";x=y', Form.JSON),
        (b"application/x-ndjson", Form.LINES),
        (b"application/jsonl; charset=utf-8", Form.LINES),
        (b"application/jsonlines", Form.LINES),
        (b"application/vnd.apache.arrow.stream", Form.ARROW),
    ],
)
def test_content_types(given: bytes | None, form: Form) -> None:
    headers = {} if given is None else {b"content-type": given}
    assert request_form(headers) is form
    assert is_batch(headers) is (form is not Form.JSON)


@pytest.mark.parametrize("given", [b"text/csv", b"", b"application/json; charset=latin-1", b"\xff"])
def test_the_rest_is_not_understood(given: bytes) -> None:
    with pytest.raises(Unsupported):
        request_form({b"content-type": given})
    assert not is_batch({b"content-type": given})


@pytest.mark.parametrize(
    ("accept", "sent", "form"),
    [
        (None, Form.ARROW, Form.ARROW),
        (b"*/*", Form.LINES, Form.LINES),
        (b"application/vnd.apache.arrow.stream", Form.LINES, Form.ARROW),
        (b"application/x-ndjson;q=0.5, */*", Form.ARROW, Form.LINES),
        (b"application/x-ndjson, application/vnd.apache.arrow.stream", Form.ARROW, Form.ARROW),
    ],
)
def test_a_batch_is_answered_as_sent_unless_the_other_is_named(
    accept: bytes | None, sent: Form, form: Form
) -> None:
    assert answer_form({} if accept is None else {b"accept": accept}, sent) is form


def test_no_other_answer_can_be_had() -> None:
    with pytest.raises(Unsupported, match="cannot be answered as 'text/csv'"):
        answer_form({b"accept": b"text/csv"}, Form.LINES)
