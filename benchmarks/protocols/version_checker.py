"""Asks a versioned model at a rate that Python can check in full: the id, the version, and both outputs."""

import http.client
import json
import threading
from collections import Counter
from typing import Self

from benchmarks.serving.model import Rows

__all__ = ["VersionChecker", "judge"]

EVERY_S = 0.005
TIMEOUT_S = 10.0
TOLERANCE = 1e-5
WRONG_MAX = 100


def judge(document: dict, *, asked_id: str, probability: float) -> str:
    """`right`, `mixed` (the version named is not the one whose outputs these are) or `wrong` in what."""
    outputs = {each["name"]: each["data"] for each in document["outputs"]}
    if document.get("id") != asked_id:
        return "wrong id"
    if outputs["version"] != [int(document["model_version"])]:
        return "mixed"
    return "right" if abs(outputs["probabilities"][-1] - probability) <= TOLERANCE else "wrong answer"


class VersionChecker:
    """A thread with one connection, as a context. `finish` gives counts by verdict, and the first that were not
    right, in words.
    """

    def __init__(self, port: int, path: str, rows: Rows) -> None:
        self._port = port
        self._path = path
        self._rows = rows
        self._counts: Counter[str] = Counter()
        self._wrong: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="version checker")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(TIMEOUT_S + 5.0)

    def finish(self) -> tuple[dict[str, int], list[str]]:
        self._stop.set()
        self._thread.join(TIMEOUT_S + 5.0)
        return dict(self._counts), self._wrong

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
        number = 0
        while not self._stop.wait(EVERY_S):
            verdict, said = self._ask(connection, number)
            self._counts[verdict] += 1
            if verdict != "right" and len(self._wrong) < WRONG_MAX:
                self._wrong.append(f"{verdict}: {said}")
            number += 1
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, number: int) -> tuple[str, str]:
        place = number % len(self._rows.features)
        row = self._rows.features[place]
        tensor = {"name": "x", "shape": [1, len(row)], "datatype": "FP32", "data": row}
        body = json.dumps({"id": str(number), "inputs": [tensor]})
        try:
            connection.request("POST", self._path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return type(error).__name__, str(error)
        said = answer[:300].decode(errors="replace")
        if response.status != 200:
            return f"status {response.status}", said
        try:
            document = json.loads(answer)
            return judge(document, asked_id=str(number), probability=self._rows.probabilities[place]), said
        except (ValueError, KeyError, TypeError, IndexError) as error:
            return "unreadable", f"{error!r} in {said}"
