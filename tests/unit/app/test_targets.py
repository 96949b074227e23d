"""What declarations and orders mean, over a registry that is a table."""

from types import SimpleNamespace
from typing import Any

from penstock.app.declarations import App
from penstock.app.objectives import Objective
from penstock.app.targets import Targets, look_up
from penstock.core.errors import NotFound
from penstock.core.signature import Signature
from penstock.supervision.messages import Pinned, Wanted

CHAMPIONS = {"a": 2, "b": 1}


class FakeLoader:
    def __init__(self) -> None:
        self.registry = self

    def get(self, model: str, number: int) -> Any:
        if number > 3:
            raise NotFound(f"no version {number} of {model!r}")
        return SimpleNamespace(number=number, executable=SimpleNamespace(size_bytes=7))

    def resolve(self, declared: Any) -> Any:
        if declared.name not in CHAMPIONS:
            raise NotFound(f"no model {declared.name!r}")
        return self.get(declared.name, CHAMPIONS[declared.name])

    def callable_version(self) -> str:
        return "abc"


def looked_up(*loaded: tuple[str, str], unloaded: tuple[str, ...] = (), models: str = "a") -> Targets:
    app = App("test")
    for model in models:
        app.model(model)
    signature = Signature.of(inputs={"x": "INT64[-1]"}, outputs={"y": "INT64[-1]"})
    app.callable("f", signature=signature)(lambda x: x)
    wanted = Wanted(loaded=tuple(Pinned(*each) for each in loaded), unloaded=unloaded)
    return look_up(app, FakeLoader(), wanted)  # type: ignore[arg-type]


def meant(targets: Targets) -> dict[tuple[str, str], bool]:
    assert len({target.key for target in targets.wanted}) == len(targets.wanted)
    return {target.key: target.default for target in targets.wanted if target.model != "f"}


def test_what_is_declared() -> None:
    targets = looked_up()
    assert [(t.model, t.version, t.default, t.size_bytes) for t in targets.wanted] == [
        ("a", "2", True, 14),
        ("f", "abc", True, 0),
    ]
    assert targets.models() == targets.defaults() == {"a", "f"}
    assert targets.unknown == {}


def test_orders_of_clients() -> None:
    assert meant(looked_up(("a", "1"), ("a", "2"))) == {("a", "2"): True, ("a", "1"): False}
    assert meant(looked_up(("b", "3"))) == {("a", "2"): True, ("b", "3"): False}
    assert meant(looked_up(("b", "3"), ("b", ""))) == {("a", "2"): True, ("b", "1"): True, ("b", "3"): False}
    assert meant(looked_up(unloaded=("a",))) == {}
    assert meant(looked_up(("a", "1"), unloaded=("a",))) == {("a", "1"): False}


def test_what_clients_order_is_promised_what_the_app_promises() -> None:
    loaded: list[Any] = []
    loader: Any = FakeLoader()
    loader.load = lambda declared, version: loaded.append(declared)
    app = App("test", objective=Objective(latency_ms=7))
    ordered = Wanted(loaded=(Pinned("a", "3"), Pinned("b", "")), unloaded=())
    for target in look_up(app, loader, ordered).wanted:
        target.load()
    assert {each.name: each.objective.latency_ms for each in loaded} == {"a": 7, "b": 7}


def test_what_is_not_known_hides_nothing_else() -> None:
    targets = looked_up(("a", "9"), ("a", "x"), ("a", "3"), ("c", ""), ("f", "old"), models="az")
    assert meant(targets) == {("a", "2"): True, ("a", "3"): False}
    assert set(targets.unknown) == {"a", "c", "f", "z"}
    assert "no version 9" in str(targets.unknown["a"])
    assert targets.defaults() == {"a", "f"}
    assert targets.models() == {"a", "c", "f", "z"}
