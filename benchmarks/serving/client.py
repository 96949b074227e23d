"""Asking a server and judging its answers, before any load is put on it."""

import http.client
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.harness.processes import Service
from benchmarks.serving.dialects import Answer, Dialect, WrongAnswer
from benchmarks.serving.model import Rows

__all__ = ["Asker", "NotAnswered", "check_answers", "first_good_answer", "get_json"]

ANSWER_S_MAX = 5.0
RETRY_S = 0.005
CHECK_THREADS = 16
PROBABILITY_TOLERANCE = 1e-5


class NotAnswered(Exception):
    """No connection, no answer in time, or an answer with a status other than 200."""


class Asker:
    """Asks one server about single rows, on a connection of its own each time."""

    def __init__(self, port: int, path: str, dialect: Dialect) -> None:
        self._port = port
        self._path = path
        self._dialect = dialect

    def ask(self, row: Sequence[float]) -> float | None:
        """The probability; raises `NotAnswered`, or `WrongAnswer` where the answer cannot be read."""
        body, headers = self._dialect.encode(row)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_S_MAX)
        try:
            connection.request("POST", self._path, body, headers)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise NotAnswered(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise NotAnswered(f"status {response.status}: {answer[:300].decode(errors='replace')}")
        received = {name.lower(): value for name, value in response.getheaders()}
        try:
            return self._dialect.decode(Answer(asked=body, headers=received, body=answer))
        except (ValueError, KeyError, TypeError) as error:
            raise WrongAnswer(f"cannot be read ({error!r}): {answer[:300]!r}") from error

    def check(self, row: Sequence[float], expected: float) -> None:
        """Raise `WrongAnswer` unless the answer is what scikit-learn says."""
        probability = self.ask(row)
        if probability is not None and abs(probability - expected) > PROBABILITY_TOLERANCE:
            raise WrongAnswer(f"said {probability}, scikit-learn says {expected}")


def first_good_answer(service: Service, asker: Asker, rows: Rows, *, wait_s_max: float) -> float:
    """Seconds from the start of the service to its first right answer."""
    why = "it was never asked"
    while time.monotonic() < service.started_s + wait_s_max:
        try:
            asker.check(rows.features[0], rows.probabilities[0])
        except NotAnswered as error:
            why = str(error)
        except WrongAnswer as error:
            raise service.failed(f"wrong answer: {error}") from error
        else:
            return time.monotonic() - service.started_s
        service.check_alive()
        time.sleep(RETRY_S)
    raise service.failed(f"no good answer within {wait_s_max:.0f} s; the last try: {why}")


def check_answers(service: Service, asker: Asker, rows: Rows) -> None:
    """Every row once, many at a time: batches form, and each caller must get the answer to its own row."""
    with ThreadPoolExecutor(CHECK_THREADS) as pool:
        try:
            list(pool.map(asker.check, rows.features, rows.probabilities))
        except (NotAnswered, WrongAnswer) as error:
            raise service.failed(f"{type(error).__name__} under concurrent requests: {error}") from error


def get_json(port: int, path: str) -> object:
    """GET a JSON document; raises `NotAnswered`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S_MAX)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise NotAnswered(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise NotAnswered(f"GET {path}: status {response.status}")
    return json.loads(body)
