"""App files: found, imported, or refused with the line that is wrong."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.app.loading import MODULE_NAME, CallableModel, file_version, load_app, load_callable
from penstock.core.errors import ConfigurationError, InvalidInput, ModelFailed

HEAD = """\
import numpy as np
import penstock
app = penstock.App("first")
signature = penstock.Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]", "s": "STRING[-1]"})
"""


@pytest.fixture(autouse=True)
def _imports_are_forgotten() -> Iterator[None]:
    path = list(sys.path)
    yield
    sys.path[:] = path
    sys.modules.pop(MODULE_NAME, None)


def write(folder: Path, text: str, name: str = "app.py") -> str:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_the_app_and_its_file(tmp_path: Path) -> None:
    file = write(tmp_path, HEAD + 'app.model("m")\n')
    app, path = load_app(file)
    assert (app.name, path) == ("first", Path(file))
    assert [declared.name for declared in app.declarations] == ["m"]


def test_one_of_several_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, HEAD + 'other = penstock.App("second")\n')
    assert load_app(f"{file}:other")[0].name == "second"
    assert load_app(f"{file}:app")[0].name == "first"
    with pytest.raises(ConfigurationError, match="has 2 Apps: app, other") as raised:
        load_app(file)
    assert raised.value.hint == f"name one: {file}:app"
    with pytest.raises(ConfigurationError, match="no App named 'missing'") as raised:
        load_app(f"{file}:missing")
    assert raised.value.hint == "it has app, other"
    with pytest.raises(ConfigurationError, match="no App named 'signature'"):
        load_app(f"{file}:signature")


def test_modules_beside_it_can_be_imported(tmp_path: Path) -> None:
    write(tmp_path, "NAME = 'from beside'\n", "beside_the_app_file.py")
    file = write(tmp_path, "import penstock\nfrom beside_the_app_file import NAME\napp = penstock.App(NAME)\n")
    assert load_app(file)[0].name == "from beside"


def test_a_colon_in_a_path_is_no_name(tmp_path: Path) -> None:
    folder = tmp_path / "a:b"
    folder.mkdir()
    assert load_app(write(folder, HEAD))[0].name == "first"
    with pytest.raises(ConfigurationError, match="no such file"):
        load_app(f"{folder}:app")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import penstock\n\n\nraise ValueError('no')\n", "raised at line 4: ValueError: no"),
        ("import penstock\n\ndef f():\n    return 1 / 0\n\nf()\n", "raised at line 4: ZeroDivisionError"),
        ("import penstock\nkey = {}['NO_SUCH_KEY']\n", "raised at line 2: KeyError: 'NO_SUCH_KEY'"),
        ("import penstock\napp = = 5\n", "raised at line 2: SyntaxError"),
        ("import penstock\n\tapp = 5\n", "raised at line 2: IndentationError"),
        ("import penstock\nimport no_such_module_at_all\n", "raised at line 2: ModuleNotFoundError"),
        ("import penstock\nimport sys\nsys.exit(0)\n", "raised at line 3: SystemExit: 0"),
        ('import penstock\nimport json\njson.loads("{")\n', "raised at line 3: JSONDecodeError"),
        (HEAD + 'app.model("m")\napp.model("m")\n', "raised at line 6: ConfigurationError"),
        (HEAD + 'app.model("m", objective=penstock.Objective(latency_ms=-1))\n', "raised at line 5"),
        (HEAD + 'penstock.Signature.of(inputs={"x": "FLOAT[-1]"}, outputs={})\n', "raised at line 5"),
        (HEAD + 'app.model("../m")\n', "raised at line 5: InvalidInput: '../m'"),
        ("x = 5\n", "has no App in it"),
        ("", "has no App in it"),
        ("import penstock\napp = penstock.App\n", "has no App in it"),
    ],
)
def test_what_is_wrong_in_it_is_said(tmp_path: Path, text: str, said: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ConfigurationError) as raised:
        load_app(file)
    assert str(raised.value).removeprefix("app file ").startswith(file)
    assert said in str(raised.value)


def test_a_module_beside_it_that_cannot_be_parsed_is_named(tmp_path: Path) -> None:
    beside = write(tmp_path, "x = 1\n\n\ny = = 2\n", "unparsable_beside_the_app_file.py")
    file = write(tmp_path, "import penstock\nimport unparsable_beside_the_app_file\n")
    with pytest.raises(ConfigurationError) as raised:
        load_app(file)
    assert f"raised at {beside}, line 4: SyntaxError" in str(raised.value)


def test_a_module_of_the_same_name_elsewhere_does_not_lend_its_line(tmp_path: Path) -> None:
    package = tmp_path / "package_beside_the_app_file"
    package.mkdir()
    write(package, "\n\n\n\n\nraise ValueError('no')\n", "app.py")
    file = write(tmp_path, "import penstock\nimport package_beside_the_app_file.app\n")
    with pytest.raises(ConfigurationError, match="raised at line 2: ValueError: no"):
        load_app(file)


def test_a_variable_that_is_not_set_is_named_with_who_reads_it(tmp_path: Path) -> None:
    for reading in ('os.environ["UNSET_HERE"]', 'os.environ.pop("UNSET_HERE")', 'os.environb[b"UNSET_HERE"]'):
        file = write(tmp_path, f"import os\nimport penstock\n\nKEY = {reading}\n")
        with pytest.raises(ConfigurationError) as raised:
            load_app(file)
        assert raised.value.message == (
            f"app file {file} needs the environment variable 'UNSET_HERE', which is not set; "
            f"it is read at {file}, line 4"
        )
        assert "export UNSET_HERE=…" in str(raised.value.hint)


def test_a_variable_that_a_module_beside_reads_is_named_with_that_module(tmp_path: Path) -> None:
    beside = write(tmp_path, "import os\n\nKEY = os.environ['UNSET_HERE']\n", "reads_beside_the_app_file.py")
    file = write(tmp_path, "import penstock\nimport reads_beside_the_app_file\n")
    with pytest.raises(ConfigurationError, match=f"read at {beside}, line 3"):
        load_app(file)


def test_another_key_that_is_missing_is_no_variable(tmp_path: Path) -> None:
    missing = write(tmp_path, "import os\nlen(os.environ)\n{}['UNSET_HERE']\n")
    with pytest.raises(ConfigurationError, match="raised at line 3: KeyError: 'UNSET_HERE'"):
        load_app(missing)
    raised_by_hand = write(tmp_path, "raise KeyError\n")
    with pytest.raises(ConfigurationError, match="raised at line 1: KeyError"):
        load_app(raised_by_hand)


def test_files_that_are_no_app_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        load_app(str(tmp_path / "none.py"))
    with pytest.raises(ConfigurationError, match="no such file"):
        load_app(str(tmp_path))
    with pytest.raises(ConfigurationError, match="is not a Python file") as raised:
        load_app(write(tmp_path, HEAD, "app.txt"))
    assert raised.value.hint == "its name has to end in .py"
    (tmp_path / "latin.py").write_bytes(b"x = '\xe9'\n")
    with pytest.raises(ConfigurationError, match="SyntaxError"):
        load_app(str(tmp_path / "latin.py"))
    (tmp_path / "null.py").write_bytes(b"x = '\0'\n")
    with pytest.raises(ConfigurationError, match="null bytes"):
        load_app(str(tmp_path / "null.py"))


def test_the_version_is_what_is_in_the_file(tmp_path: Path) -> None:
    first = file_version(Path(write(tmp_path, HEAD)))
    assert first == file_version(Path(write(tmp_path, HEAD, "same.py")))
    assert first != file_version(Path(write(tmp_path, HEAD + "\n", "other.py")))
    assert len(first) == 12


# Callables


def callable_model(folder: Path, body: str) -> CallableModel:
    declaration = '@app.callable("m", signature=signature)\n'
    file = write(folder, HEAD + declaration + body)
    return load_callable(file=file, app="first", model="m", version=file_version(Path(file)))


def test_a_variable_that_a_class_reads_when_it_is_made(tmp_path: Path) -> None:
    body = "class M:\n    def __init__(self):\n        import os\n        os.environ['UNSET_HERE']\n"
    with pytest.raises(ConfigurationError, match=r"model 'm' needs .* 'UNSET_HERE'.*, line 9"):
        callable_model(tmp_path, body)
    with pytest.raises(KeyError, match="UNSET_HERE"):
        callable_model(tmp_path, body.replace("os.environ", "{}"))


def function(folder: Path, returned: str) -> CallableModel:
    return callable_model(folder, f"def m(inputs):\n    return {returned}\n")


X = {"x": np.array([1, 2], "<f4")}


def test_a_function(tmp_path: Path) -> None:
    """Numpy computes wider than declared; what fits the kind is cast."""
    model = function(tmp_path, '{"y": inputs["x"].astype("f8") + 1, "s": ["a", "b"]}')
    outputs = model.run(X)
    assert list(outputs) == ["y", "s"]
    assert (outputs["y"].dtype, outputs["y"].tolist()) == (np.dtype("<f4"), [2.0, 3.0])
    assert (outputs["s"].dtype, outputs["s"].tolist()) == (np.dtype(object), ["a", "b"])
    assert [spec.name for spec in model.signature.inputs] == ["x"]


def test_a_class_is_made_once(tmp_path: Path) -> None:
    body = (
        "class Model:\n"
        "    def __init__(self): self.calls = 0\n"
        "    def __call__(self, inputs):\n"
        "        self.calls += 1\n"
        '        return {"y": inputs["x"] * 0 + self.calls, "s": ["a", "b"]}\n'
    )
    model = callable_model(tmp_path, body)
    assert [model.run(X)["y"].tolist() for _ in range(2)] == [[1, 1], [2, 2]]
    with pytest.raises(ModelFailed, match="instances of Model cannot be called"):
        callable_model(tmp_path, "class Model: pass\n")


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("None", "returned NoneType, not a dict"),
        ('[inputs["x"]]', "returned list, not a dict"),
        ('{"y": inputs["x"]}', "its outputs do not match the model's: missing ['s']"),
        ('{"y": inputs["x"], "s": ["a", "b"], "t": 1}', "unknown ['t']"),
        ('{"y": inputs["x"] * 1j, "s": ["a", "b"]}', "Cannot cast"),
        ('{"y": ["a", "b"], "s": ["a", "b"]}', "Cannot cast"),
        ('{"y": [[1.0], [2.0, 3.0]], "s": ["a", "b"]}', "inhomogeneous"),
        ('{"y": inputs["x"].reshape(1, 1, 2), "s": ["a", "b"]}', "output 'y': expected shape [-1]"),
        ('{"y": inputs["x"], "s": ["a"]}', "output 's' has 1 rows"),
        (
            '{"y": inputs["x"] * float("nan"), "s": ["a", "b"]}',
            "output 'y', row 0: the model has no place for nan",
        ),
        ('{"y": inputs["x"][:0], "s": ["a", "b"]}', "output 'y' has zero rows"),
        ('{"y": 5.0, "s": "a"}', "output 'y': expected shape [-1], got []"),
        ('{"y": inputs["x"], "s": [1.5, 2.5]}', "output 's': 1.5 is not of type str"),
        ('{"y": inputs["x"], "s": [b"a", b"b"]}', "output 's': b'a' is not of type str"),
        ('{"y": inputs["x"], "s": np.array(["a", None], dtype=object)}', "output 's': None is not of type str"),
    ],
)
def test_answers_against_the_signature(tmp_path: Path, returned: str, said: str) -> None:
    with pytest.raises(ModelFailed) as raised:
        function(tmp_path, returned).run(X)
    assert said in str(raised.value)
    assert "'m'" in str(raised.value)


def test_what_it_raises_is_its_own(tmp_path: Path) -> None:
    body = "def m(inputs):\n    raise penstock.InvalidInput('bad', where='x')\n"
    with pytest.raises(InvalidInput, match="bad"):
        callable_model(tmp_path, body).run(X)


@pytest.mark.parametrize("named", [{"app": "first", "model": "other"}, {"app": "other", "model": "m"}])
def test_a_declaration_that_is_gone(tmp_path: Path, named: dict[str, Any]) -> None:
    file = write(
        tmp_path, HEAD + '@app.callable("m", signature=signature)\ndef m(inputs): ...\napp.model("other")\n'
    )
    with pytest.raises(ConfigurationError, match="any more"):
        load_callable(file=file, version=file_version(Path(file)), **named)


def test_a_file_that_changed_since_the_server_started(tmp_path: Path) -> None:
    text = HEAD + '@app.callable("m", signature=signature)\ndef m(inputs): return 1\n'
    file = write(tmp_path, text)
    version = file_version(Path(file))
    write(tmp_path, text.replace("return 1", "return 2"))
    with pytest.raises(ConfigurationError, match="changed since the server started") as raised:
        load_callable(file=file, app="first", model="m", version=version)
    assert raised.value.hint == "restart the server to serve what is in it now"
    write(tmp_path, text)
    assert load_callable(file=file, app="first", model="m", version=version).signature.inputs
