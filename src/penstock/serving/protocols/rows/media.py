"""The forms that rows come and go in, by their content types. Source: RFC 9110, sections 8.3 and 12.5.1."""

import enum

from penstock.core.errors import Unsupported, shown

__all__ = ["Form", "answer_form", "is_batch", "request_form"]


class Form(enum.Enum):
    """By the content type that answers have."""

    JSON = "application/json"
    LINES = "application/x-ndjson"
    ARROW = "application/vnd.apache.arrow.stream"


_BY_TYPE = {
    "application/json": Form.JSON,
    "application/x-ndjson": Form.LINES,
    "application/ndjson": Form.LINES,
    "application/jsonlines": Form.LINES,
    "application/jsonl": Form.LINES,
    "application/vnd.apache.arrow.stream": Form.ARROW,
}
_UTF8 = ("utf-8", "utf8", "us-ascii")
_UNDERSTOOD = (
    "application/json, application/x-ndjson, application/jsonlines and application/vnd.apache.arrow.stream"
)


def request_form(headers: dict[bytes, bytes]) -> Form:
    """The form of a request's body; JSON where nothing is said. Raises `Unsupported`."""
    given = headers.get(b"content-type")
    if given is None or given == b"application/json":
        return Form.JSON
    media, *parameters = given.decode("latin-1").lower().split(";")
    form = _BY_TYPE.get(media.strip())
    if form is None:
        raise Unsupported(
            f"content type {shown(media.strip())} is not understood here",
            where="content-type",
            hint=f"understood are {_UNDERSTOOD}",
        )
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name == "charset" and value.strip('"') not in _UTF8:
            raise Unsupported(
                f"charset {shown(value)} is not understood here", where="content-type", hint="send UTF-8"
            )
    return form


def is_batch(headers: dict[bytes, bytes]) -> bool:
    """Whether the body is a batch, which is read as it comes. Whatever is wrong with it is told later."""
    given = headers.get(b"content-type")
    if given is None or given == b"application/json":
        return False
    form = _BY_TYPE.get(given.partition(b";")[0].strip().lower().decode("latin-1"))
    return form is Form.LINES or form is Form.ARROW


def answer_form(headers: dict[bytes, bytes], sent: Form) -> Form:
    """The form of a batch's answer: as sent, unless Accept names only the other. Raises `Unsupported`."""
    accept = headers.get(b"accept")
    if accept is None:
        return sent
    named = [each.partition(";")[0].strip().lower() for each in accept.decode("latin-1").split(",")]
    forms = [form for name in named if (form := _BY_TYPE.get(name)) in (Form.LINES, Form.ARROW)]
    if sent in forms:
        return sent
    if forms and forms[0] is not None:
        return forms[0]
    if any(name in ("*/*", "application/*", "") for name in named):
        return sent
    raise Unsupported(
        f"a batch cannot be answered as {shown(accept.decode('latin-1'))}",
        where="accept",
        hint="it is answered as application/x-ndjson or application/vnd.apache.arrow.stream",
    )
