"""The heads of requests, and those that need no parsing any more: most clients send the same one every time."""

from penstock.serving.protocols.terms import SaidTerms

__all__ = ["KnownHeads", "RequestHead"]

HEADS_MAX = 256
HEAD_BYTES_MAX = 2048
HEAD_END = b"\r\n\r\n"


class RequestHead:
    """What comes before a request's body. Shared by requests that say the same: nobody changes it.

    `length` is how long the body is as announced, None where it is in chunks.
    """

    __slots__ = ("chunks", "headers", "keep_alive", "length", "method", "said", "target")

    def __init__(
        self,
        method: bytes,
        target: bytes,
        headers: dict[bytes, bytes],
        *,
        length: int | None = 0,
        keep_alive: bool = True,
        chunks: bool = True,
    ) -> None:
        self.method = method
        self.target = target
        """The path and query as they were sent."""
        self.headers = headers
        """By names in lower case; of a name that came twice, the last one."""
        self.length = length
        self.keep_alive = keep_alive
        self.chunks = chunks
        """Whether the client knows chunked transfer encoding, as HTTP/1.1 has it."""
        self.said: SaidTerms | None = None
        """What the headers say of how it is to be treated, once that was read."""


class KnownHeads:
    """By their bytes, what heads were parsed as; of all connections of a server, as many as `HEADS_MAX`.

    A head means the same whenever it begins a message, so what it was parsed as need not be found out again.
    Only those are kept that say all: a host, no chunks, no upgrade, nothing asked first, no end after it.
    """

    __slots__ = ("_heads", "find")

    def __init__(self) -> None:
        self._heads: dict[bytes, RequestHead] = {}
        self.find = self._heads.get

    def learn(self, raw: bytes, head: RequestHead) -> None:
        """`raw` was parsed as this head, with nothing before it; its last line is its first empty one."""
        line = b"%b %b HTTP/1.1\r\n" % (head.method, head.target)
        # Where a line could end otherwise than in CR LF, an empty line might have ended the head before.
        plain = (
            raw.count(b"\n") == raw.count(b"\r\n") == raw.count(b"\r") and raw.find(HEAD_END) == len(raw) - 4
        )
        if not raw.startswith(line) or not plain or len(raw) > HEAD_BYTES_MAX or not _says_all(head):
            return
        if len(self._heads) >= HEADS_MAX:
            del self._heads[next(iter(self._heads))]
        self._heads[raw] = head


def _says_all(head: RequestHead) -> bool:
    if head.length is None or not head.keep_alive or not head.chunks or b"host" not in head.headers:
        return False
    return not any(name in head.headers for name in (b"transfer-encoding", b"upgrade", b"expect"))
