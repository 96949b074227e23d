"""The registry against a dictionary: any sequence of verbs leaves both in the same state."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from penstock.core.errors import Conflict, NotFound
from penstock.core.signature import Signature
from penstock.models.registry import ANY_VERSION, AliasMoved, Candidate, FolderArtifactStore, Registry
from penstock.models.version import Lineage, RuntimeKind, SourceFormat

# Few names and numbers, so that most verbs meet something.
models = st.sampled_from(["late", "late", "late", "early"])
aliases = st.sampled_from(["champion", "champion", "canary"])
numbers = st.integers(1, 4)
contents = st.binary(min_size=1, max_size=1)
SIGNATURE = Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]"})


class RegistryMachine(RuleBasedStateMachine):
    """The expectation: contents by model and number, aliases by model, last numbers by model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="penstock-registry-"))
        self.store = FolderArtifactStore(self.folder / "artifacts")
        self.open()
        self.versions: dict[str, dict[int, tuple[bytes, bytes | None]]] = {}
        self.aliases: dict[str, dict[str, int]] = {}
        self.last: dict[str, int] = {}

    def open(self) -> None:
        self.registry = Registry.open(f"sqlite:///{self.folder}/penstock.db", self.store)

    @initialize(to=st.sets(aliases))
    def push_two(self, to: set[str]) -> None:
        self.push("late", b"1", None, to, None)
        self.push("late", b"2", b"3", set(), 1)

    def teardown(self) -> None:
        self.registry.close()
        shutil.rmtree(self.folder)

    @rule(
        model=models,
        content=contents,
        golden=st.none() | contents,
        to=st.sets(aliases),
        parent=st.none() | numbers,
    )
    def push(self, model: str, content: bytes, golden: bytes | None, to: set[str], parent: int | None) -> None:
        source = self.folder / "model.onnx"
        source.write_bytes(content)
        candidate = Candidate(
            model=model,
            signature=SIGNATURE,
            runtime=RuntimeKind.ONNX,
            format=SourceFormat.ONNX,
            source=source,
            golden=golden,
            lineage=Lineage(parent=parent),
            creator="hypothesis",
            aliases=tuple(to),
        )
        if parent is not None and parent > self.last.get(model, 0):
            with pytest.raises(NotFound):
                self.registry.push(candidate)
            return
        number = self.registry.push(candidate).number
        assert number == self.last.get(model, 0) + 1
        self.last[model] = number
        self.versions.setdefault(model, {})[number] = (content, golden)
        self.aliases.setdefault(model, {}).update(dict.fromkeys(to, number))

    @rule(model=models, alias=aliases, to=numbers, expected=st.none() | st.just(ANY_VERSION) | numbers)
    def move_alias(self, model: str, alias: str, to: int, expected) -> None:
        if to not in self.versions.get(model, {}):
            with pytest.raises(NotFound):
                self.registry.move_alias(model, alias, to=to, expected=expected)
            return
        standing = self.aliases[model].get(alias)
        if expected not in (ANY_VERSION, standing):
            with pytest.raises(AliasMoved) as caught:
                self.registry.move_alias(model, alias, to=to, expected=expected)
            assert caught.value.standing == standing
            return
        assert self.registry.move_alias(model, alias, to=to, expected=expected) == standing
        self.aliases[model][alias] = to

    @rule(model=models, alias=aliases)
    def delete_alias(self, model: str, alias: str) -> None:
        if alias not in self.aliases.get(model, {}):
            with pytest.raises(NotFound):
                self.registry.delete_alias(model, alias)
            return
        assert self.registry.delete_alias(model, alias) == self.aliases[model].pop(alias)

    @rule()
    def delete_the_newest(self) -> None:
        """Where a number is used again, if ever."""
        if versions := self.versions["late"]:
            self.delete("late", max(versions))

    @rule(model=models, number=numbers)
    def delete(self, model: str, number: int) -> None:
        if number not in self.versions.get(model, {}):
            with pytest.raises(NotFound):
                self.registry.delete(model, number)
        elif number in self.aliases[model].values():
            with pytest.raises(Conflict):
                self.registry.delete(model, number)
        else:
            self.registry.delete(model, number)
            del self.versions[model][number]

    @rule()
    def collect_garbage(self) -> None:
        used = {
            artifact
            for versions in self.versions.values()
            for files in versions.values()
            for artifact in files
            if artifact is not None
        }
        stored = {stored.digest: stored.size_bytes for stored in self.store.list()}
        garbage = self.registry.collect_garbage(grace_s=0)
        assert garbage.freed_bytes == len(stored) - len(used), "every file has one byte"
        assert len(list(self.store.list())) == len(used)

    @rule()
    def open_again(self) -> None:
        self.registry.close()
        self.open()

    @invariant()
    def agrees(self) -> None:
        known = {model: versions for model, versions in self.versions.items() if versions}
        assert self.registry.models() == tuple(sorted(known))
        for model, versions in known.items():
            found = self.registry.versions(model)
            assert [version.number for version in found] == sorted(versions, reverse=True)
            for version in found:
                content, golden = versions[version.number]
                assert self.registry.fetch(version).read_bytes() == content
                if golden is not None:
                    assert self.registry.fetch(version, "golden").read_bytes() == golden
            assert self.registry.aliases(model) == self.aliases[model]
            assert self.registry.resolve(model).number == self.aliases[model].get("champion", max(versions))


TestRegistryMachine = RegistryMachine.TestCase
TestRegistryMachine.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
