"""The application over a real data plane and a fake runtime: requests in, answers out, no sockets."""

import asyncio
import gzip
import json
import threading
import zlib

import numpy as np
import pytest

from penstock.core.clock import SystemClock
from penstock.core.errors import ConfigurationError, Forbidden, NotFound
from penstock.core.signature import Signature
from penstock.observe.metrics import MetricSet
from penstock.serving.admission.rate_limits import RateLimits
from penstock.serving.admission.rates.rule import RateLimit, RateRule
from penstock.serving.admission.rates.tenants import ApiKeys, Tenants
from penstock.serving.batching.batcher import BatchingConfig
from penstock.serving.deployment import ServedModel
from penstock.serving.instance import ModelState, RepositoryEntry
from penstock.serving.plane import DataPlane
from penstock.serving.protocols.http import bodies
from penstock.serving.protocols.http.application import HttpApplication, HttpConfig
from penstock.serving.protocols.http.compression import zstd
from penstock.serving.protocols.http.heads import RequestHead
from penstock.serving.protocols.http.messages import BrokenBody, HttpHungUp, HttpRequest, Refusal, ResponseHead
from penstock.serving.protocols.http.responder import Responder
from penstock.serving.protocols.terms import Terms

BODY_BYTES_MAX = 1_000_000
INFER = "/v2/models/double/infer"
DOUBLE = Signature.of(inputs={"x": "FP32[-1, 2]"}, outputs={"y": "FP32[-1, 2]"})


class Runtime:
    """Answers with twice its first input, and remembers on which thread it was asked."""

    fault = None
    memory_bytes = 0

    def __init__(self, signature=DOUBLE):
        self.signature = signature

    def run(self, tensors, timeout_s):
        (x, *_) = tensors.values()
        twice = x if x.dtype.kind in "Ob" else (x + x).astype(x.dtype)
        return {spec.name: twice for spec in self.signature.outputs}

    def rest(self, inputs): ...

    def revive(self):
        pass

    def close(self):
        pass


class Instance:
    """What the application is told of the whole instance, and what it asks of it."""

    def __init__(self, plane):
        self.plane = plane
        self.ready = True
        self.asked = []

    async def metrics(self):
        return "measures\n"

    async def statistics(self):
        return tuple(each.statistics() for each in self.plane.deployments())

    async def index(self):
        return (
            RepositoryEntry(name="double", version="1", state=ModelState.READY),
            RepositoryEntry(name="other", version="3", state=ModelState.UNAVAILABLE, reason="not wanted"),
        )

    async def load(self, model, version):
        self.asked.append(("load", model, version))
        if model == "nothing":
            raise NotFound("no model 'nothing'")
        if model == "forbidden":
            raise Forbidden("clients may not load models", hint="set server.model_control")

    async def unload(self, model, version):
        self.asked.append(("unload", model, version))


class Answer:
    def __init__(self, head, body):
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = dict(line.split(": ", 1) for line in lines if line)
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)


class Sink:
    """Takes one answer."""

    def __init__(self):
        self.answer = asyncio.get_running_loop().create_future()
        self.room = 10**9

    peer = b"127.0.0.1"

    def send_answer(self, request, head, body):
        self.answer.set_result(Answer(head, body))

    def replace_body(self, request, body):
        if len(body) > self.room:
            return False
        request.body = body
        return True


class Rig:
    def __init__(self, config=None, signatures=None):
        clock = SystemClock()
        metrics = MetricSet()
        self.plane = DataPlane(metrics, clock)
        for model, signature in (signatures or {"double": DOUBLE}).items():
            self.add(model, "1", signature)
        self.plane.accept()
        self.instance = Instance(self.plane)
        defaults = {
            "name": "penstock",
            "version": "0.1",
            "request_timeout_s": 5.0,
            "body_bytes_max": BODY_BYTES_MAX,
        }
        self.application = HttpApplication(
            self.plane, self.instance, metrics, HttpConfig(**defaults | (config or {}))
        )

    def add(self, model, version, signature=DOUBLE):
        batching = BatchingConfig(objective_s=1.0, rows_max=64, queue_rows_max=10**6, queue_bytes_max=10**9)
        served = ServedModel(
            model=model, version=version, platform="fake", runtime=Runtime(signature), batching=batching
        )
        return self.plane.add(served)

    async def ask(self, path, body=b"", *, method=None, room=None, **headers):
        sink = Sink()
        if room is not None:
            sink.room = room
        given = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        verb = (method or ("POST" if body else "GET")).encode()
        now_s = asyncio.get_running_loop().time()
        request = HttpRequest(sink, RequestHead(verb, path.encode(), given), body, now_s)
        self.application.handle(request)
        async with asyncio.timeout(10):
            return await sink.answer


def ask(path, body=b"", *, config=None, signatures=None, **more):
    """Asks once, of an application of its own."""

    async def asking():
        rig = Rig(config, signatures)
        answer = await rig.ask(path, body, **more)
        await rig.plane.close()
        return answer

    return asyncio.run(asking())


def message(rows=1, **more):
    data = [float(number) for number in range(2 * rows)]
    x = {"name": "x", "datatype": "FP32", "shape": [rows, 2], "data": data}
    return json.dumps({"inputs": [x], **more}).encode()


def refused(answer, status, *said):
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json) == ["error"]
    for each in said:
        assert each in answer.json["error"]


# Errors


def answered(error):
    """What is answered for an error; None: nothing."""

    async def answering():
        sink = Sink()
        request = HttpRequest(sink, RequestHead(b"GET", b"/", {}), b"", 0.0)
        Responder(MetricSet()).respond_error(request, error)
        return sink.answer.result() if sink.answer.done() else None

    return asyncio.run(answering())


def test_a_body_that_broke_off_is_answered_with_the_reason():
    refused(answered(BrokenBody("no more of the body arrived", status=408)), 408, "no more")


def test_nobody_is_told_that_nobody_is_there():
    assert answered(HttpHungUp("the client hung up")) is None


# Compressed requests

PACK = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress, "x-gzip": gzip.compress}


@pytest.mark.parametrize("encoding", PACK)
@pytest.mark.parametrize("rows", [1, 20_000], ids=["small", "large"])
def test_a_compressed_request_is_answered(encoding, rows):
    answer = ask(INFER, PACK[encoding](message(rows)), content_encoding=encoding)
    assert answer.status == 200
    assert answer.json["outputs"][0]["data"] == [2.0 * number for number in range(2 * rows)]


def test_large_bodies_are_decompressed_off_the_event_loop(monkeypatch):
    threads = set()
    slicing = bodies.sliced

    def watched(body):
        for piece in slicing(body):
            threads.add(threading.current_thread().name.partition("_")[0])
            yield piece

    monkeypatch.setattr(bodies, "sliced", watched)
    noise = np.random.default_rng(1).normal(size=20_000)
    x = {"name": "x", "datatype": "FP32", "shape": [10_000, 2], "data": noise.tolist()}
    body = gzip.compress(json.dumps({"inputs": [x]}).encode())
    assert ask(INFER, body, content_encoding="gzip").status == 200
    assert "compression" in threads


def test_binary_tensors_are_counted_decompressed():
    raw = np.array([[1, 2], [3, 4]], dtype="<f4").tobytes()
    x = {"name": "x", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [x], "parameters": {"binary_data_output": True}}).encode()
    answer = ask(
        INFER,
        gzip.compress(head + raw),
        content_encoding="gzip",
        inference_header_content_length=str(len(head)),
        accept_encoding="gzip",
        config={"compress_bytes_min": 0},
    )
    whole = gzip.decompress(answer.body)
    json_bytes = int(answer.headers["inference-header-content-length"])
    assert np.frombuffer(whole[json_bytes:], "<f4").tolist() == [2, 4, 6, 8]
    assert json.loads(whole[:json_bytes])["outputs"][0]["shape"] == [2, 2]


def test_an_unknown_encoding_is_told_what_is_known():
    answer = ask(INFER, b"whatever", content_encoding="br")
    refused(answer, 415, "'br'", "gzip")
    assert answer.headers["accept-encoding"] == "gzip, deflate, zstd"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
@pytest.mark.parametrize(
    ("make", "status", "said"),
    [
        (lambda pack: pack(b" " * (BODY_BYTES_MAX + 1)), 413, "server.body_bytes_max"),
        (lambda pack: pack(b" " * 50 * BODY_BYTES_MAX), 413, "server.body_bytes_max"),
        (lambda pack: pack(message())[:-1], 400, "ends early"),
        (lambda pack: pack(message(20_000))[:-1], 400, "ends early"),
        (lambda pack: pack(message()) + b"x", 400, "goes on"),
        (lambda pack: b"\xff" + message(), 400, ""),
        (lambda pack: pack(b"no JSON"), 400, "not JSON"),
        (lambda pack: b"", 400, "ends early"),
    ],
    ids=["limit", "bomb", "cut", "large cut", "surplus", "other", "no JSON", "empty"],
)
def test_a_compressed_body_that_is_wrong(encoding, make, status, said):
    answer = ask(INFER, make(PACK[encoding]), method="POST", content_encoding=encoding)
    refused(answer, status, said)


def test_what_is_decompressed_counts_against_what_the_server_may_hold():
    answer = ask(INFER, gzip.compress(message(1000)), content_encoding="gzip", room=1000)
    refused(answer, 503, "as much as it can")


def test_identity_is_no_encoding():
    assert ask(INFER, message(), content_encoding="identity").status == 200


# Compressed answers


@pytest.mark.parametrize("rows", [10, 5000], ids=["small", "large"])
def test_answers_are_compressed_for_who_accepts_it(rows):
    plain = ask(INFER, message(rows))
    assert "content-encoding" not in plain.headers
    assert "vary" not in plain.headers
    for encoding, unpack in (
        ("gzip", gzip.decompress),
        ("deflate", zlib.decompress),
        ("zstd", zstd.decompress),
    ):
        answer = ask(INFER, message(rows), accept_encoding=encoding, config={"compress_bytes_min": 10})
        assert answer.headers["content-encoding"] == encoding
        assert answer.headers["vary"] == "accept-encoding"
        assert unpack(answer.body) == plain.body


def test_an_answer_that_would_grow_is_sent_as_it_is():
    async def delivering():
        sink = Sink()
        request = HttpRequest(sink, RequestHead(b"GET", b"/", {b"accept-encoding": b"gzip"}), b"", 0.0)
        head = ResponseHead.build(200, "application/json")
        Responder(MetricSet(), compress_bytes_min=0).deliver(request, head, b"{}")
        return sink.answer.result()

    answer = asyncio.run(delivering())
    assert "content-encoding" not in answer.headers
    assert answer.body == b"{}"


@pytest.mark.parametrize("path", ["/v2/models/stats", "/v2/models/double", "/metrics", "/nowhere"])
def test_only_inferences_are_compressed(path):
    """Triton's asyncio client decompresses no other answer, and offers gzip for all of them."""
    config = {"compress_bytes_min": 0}
    plain = ask(path, config=config)
    answer = ask(path, accept_encoding="gzip", config=config)
    assert "content-encoding" not in answer.headers
    assert answer.body == plain.body


def test_answers_below_the_setting_are_not_compressed():
    answer = ask(INFER, message(), accept_encoding="gzip", config={"compress_bytes_min": 10_000})
    assert "content-encoding" not in answer.headers


def test_who_accepts_none_gets_it_as_it_is():
    answer = ask(INFER, message(100), accept_encoding="br", config={"compress_bytes_min": 10})
    assert "content-encoding" not in answer.headers
    assert answer.headers["vary"] == "accept-encoding"
    assert answer.json["outputs"][0]["shape"] == [100, 2]


# What is counted


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs": [{"name": "z", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}',
        b'{"inputs": [',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1]}]}',
    ],
    ids=["name", "json", "shape"],
)
@pytest.mark.parametrize("path", [INFER, "/models/double/invocations"])
def test_what_cannot_be_read_as_inputs_is_counted_once_as_a_failure(path, body):
    async def asking():
        rig = Rig()
        answer = await rig.ask(path, body)
        (counted,) = rig.plane.statistics()
        await rig.plane.close()
        return answer, counted

    answer, counted = asyncio.run(asking())
    assert answer.status in {400, 422}, answer.body
    assert (counted.failure.count, counted.success.count) == (1, 0)


# Other origins

PAGE = "https://app.example.com"
CORS = {"cors_origins": f"{PAGE}, http://localhost:3000"}


def preflight(config, origin=PAGE):
    headers = {"origin": origin, "access_control_request_method": "POST"}
    return ask(INFER, method="OPTIONS", config=config, **headers)


def test_a_preflight_is_answered():
    answer = preflight(CORS)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["vary"] == "origin"
    assert "POST" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    wanted = {"content-type", "inference-header-content-length", "x-request-timeout-ms", "x-criticality"}
    assert wanted <= set(allowed)
    assert int(answer.headers["access-control-max-age"]) > 0


def test_answers_name_the_origin_that_may_read_them():
    answer = ask(INFER, message(), origin=PAGE, config=CORS)
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "inference-header-content-length" in answer.headers["access-control-expose-headers"]
    missing = ask("/nowhere", origin=PAGE, config=CORS)
    refused(missing, 404)
    assert missing.headers["access-control-allow-origin"] == PAGE
    assert ask(INFER, message(), config=CORS).headers["vary"] == "origin"


def test_all_origins():
    assert preflight({"cors_origins": "*"}).headers["access-control-allow-origin"] == "*"
    answer = ask(INFER, message(), origin="https://elsewhere.example", config={"cors_origins": "*"})
    assert answer.headers["access-control-allow-origin"] == "*"


def test_an_origin_that_may_not():
    other = "https://app.example.com.evil.example"
    refused(preflight(CORS, other), 403, "server.cors_origins")
    answer = ask(INFER, message(), origin=other, config=CORS)
    assert answer.status == 200, "its browser keeps the answer from the page"
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("config", "origin", "lines"),
    [
        (CORS, PAGE, {"vary": "origin", "access-control-allow-origin": PAGE}),
        (CORS, "https://elsewhere.example", {"vary": "origin"}),
        ({"cors_origins": "*"}, PAGE, {"access-control-allow-origin": "*"}),
        ({}, PAGE, {}),
    ],
)
def test_refusals_of_the_connection_itself_name_the_origin_too(config, origin, lines):
    async def refusing():
        return Rig(config).application.refusal(413, "too large", {b"origin": origin.encode()})

    found, body = asyncio.run(refusing())
    told = dict(line.split(": ", 1) for line in found.decode().split("\r\n") if line)
    told.pop("access-control-expose-headers", None)
    assert told == lines
    assert json.loads(body) == {"error": "too large"}


def test_without_the_setting_nothing_is_said():
    refused(preflight({}), 405)
    answer = ask(INFER, message(), origin=PAGE)
    assert not [name for name in answer.headers if name.startswith("access-control") or name == "vary"]


@pytest.mark.parametrize(
    "setting",
    [
        "app.example.com",
        "https://app.example.com/",
        "https://a.example,*",
        "null",
        "https://",
        "https://A.example",
        "https://a.example:port",
        "https://a.example\r\nx: y",
    ],
)
def test_an_origin_that_is_none(setting):
    with pytest.raises(ConfigurationError, match="cors_origins"):
        ask("/v2", config={"cors_origins": setting})


# Rate limits


def limited(unit="requests", burst=2.0):
    rig = Rig()
    rig.plane.limits = RateLimits(Tenants(ApiKeys(b"s" * 32)), MetricSet(), rig.plane.clock)
    rig.plane.limits.set_rules([RateRule(limit=RateLimit(per_second=0.01, burst=burst, unit=unit))])
    return rig


def meet(rig, sink):
    return rig.application.meet(RequestHead(b"POST", INFER.encode(), {}), rig.plane.clock.monotonic(), sink)


def test_over_the_limit_it_is_refused_from_its_head_and_charged_once():
    async def life():
        rig = limited()
        assert (await rig.ask(INFER, message())).status == 200  # from here on the target is known
        terms = meet(rig, Sink())
        assert isinstance(terms, Terms)
        assert terms.metered
        request = HttpRequest(Sink(), RequestHead(b"POST", INFER.encode(), {}), message(), 0.0)
        request.arrived_s = rig.plane.clock.monotonic()
        request.terms = terms
        rig.application.handle(request)
        assert (await request.connection.answer).status == 200
        verdict = meet(rig, Sink())
        assert isinstance(verdict, Refusal)
        refused(Answer(verdict.head, verdict.body), 429, "rate limit", "try again")
        assert b"x-shed-reason: quota" in verdict.head
        (statistics,) = rig.plane.statistics()
        assert statistics.failure.count == 1
        await rig.plane.close()

    asyncio.run(life())


def test_a_limit_of_rows_is_charged_with_the_body():
    async def life():
        rig = limited("rows", 10.0)
        assert (await rig.ask(INFER, message(8))).status == 200
        assert isinstance(meet(rig, Sink()), Terms)
        refused(await rig.ask(INFER, message(8)), 429, "rate limit")
        refused(await rig.ask(INFER, message(11)), 413, "11 rows", "10 pass at once")
        assert (await rig.ask(INFER, message(2))).status == 200
        assert isinstance(meet(rig, Sink()), Refusal)
        await rig.plane.close()

    asyncio.run(life())
