from pathlib import Path

import pytest

from penstock.core.errors import ConfigurationError
from penstock.core.settings import LoadedSettings, Settings, load_settings


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(
    text: str | None = None,
    environment: dict[str, str] | None = None,
    flags: dict[str, object] | None = None,
) -> LoadedSettings:
    file = None
    if text is not None:
        file = Path("given.toml")
        file.write_text(text, encoding="utf-8")
    return load_settings(file=file, environment=environment or {}, flags=flags or {})


def test_defaults() -> None:
    loaded = load()
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.settings.database_url == "sqlite:///.penstock/control.db"
    assert loaded.settings.artifacts_folder == Path(".penstock/artifacts")


def test_each_source_is_stronger_than_the_one_before() -> None:
    text = 'home = "h"\n[server]\nport = 1\nhost = "file"\nconnections_max = 11\n'
    environment = {"PENSTOCK_SERVER_PORT": "2", "PENSTOCK_SERVER_HOST": "environment", "HOME": "/root"}
    loaded = load(text, environment, {"server.port": "3"})
    server = loaded.settings.server
    assert (server.port, server.host, server.connections_max) == (3, "environment", 11)
    assert loaded.settings.home == "h"
    rows = {key: (value, origin) for key, value, origin in loaded.rows()}
    assert rows["server.port"] == (3, "flag")
    assert rows["server.host"] == ("environment", "environment PENSTOCK_SERVER_HOST")
    assert rows["server.connections_max"] == (11, "given.toml")
    assert rows["log_level"] == ("info", "default")
    assert list(rows) == list(loaded.origins)


def test_every_key_can_come_from_every_source() -> None:
    defaults = list(load().rows())
    for key, value, _ in defaults:
        table, _, name = key.rpartition(".")
        line = f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}\n"
        text = f"[{table}]\n{line}" if table else line
        variable = "PENSTOCK_" + key.upper().replace(".", "_")
        for loaded in (load(text), load(None, {variable: str(value)}), load(None, None, {key: str(value)})):
            assert loaded.settings == Settings()
            assert [at for at, origin in loaded.origins.items() if origin != "default"] == [key]


def test_the_file_is_found_by_variable_or_in_the_folder() -> None:
    Path("penstock.toml").write_text('home = "here"')
    Path("other.toml").write_text('home = "other"')
    assert load().origins["home"] == "penstock.toml"
    assert load(None, {"PENSTOCK_CONFIG": "other.toml"}).settings.home == "other"
    assert load(None, {"PENSTOCK_CONFIG": ""}).settings.home == "here"
    assert load('home = "named"', {"PENSTOCK_CONFIG": "other.toml"}).settings.home == "named"


@pytest.mark.parametrize(
    ("text", "environment", "flags", "said", "nearest"),
    [
        ("[server]\nprot = 1", {}, {}, "'server.prot' (given.toml)", "'server.port'"),
        ("server = 1", {}, {}, "'server' (given.toml)", "server."),
        ("[batchng]\nrows_max = 1", {}, {}, "'batchng.rows_max' (given.toml)", "'batching.rows_max'"),
        (None, {"PENSTOCK_SERVER_PROT": "1"}, {}, "(environment)", "'PENSTOCK_SERVER_PORT'"),
        (None, {}, {"log_levle": "info"}, "'log_levle' (flag)", "'log_level'"),
    ],
)
def test_an_unknown_key_names_the_nearest(
    text: str | None, environment: dict[str, str], flags: dict[str, object], said: str, nearest: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(text, environment, flags)
    assert said in str(raised.value)
    assert nearest in (raised.value.hint or "")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("server.port", "80a"),
        ("server.port", "-1"),
        ("server.port", "65536"),
        ("server.port", ""),
        ("server.port", "1.5"),
        ("server.connections_max", "0"),
        ("server.request_timeout_s", "0"),
        ("server.request_timeout_s", "nan"),
        ("server.request_timeout_s", "inf"),
        ("server.drain_s", "-1"),
        ("server.drain_s", "nan"),
        ("log_level", "loud"),
        ("log_level", "info\n"),
    ],
)
def test_a_value_that_does_not_fit(key: str, value: str) -> None:
    variable = "PENSTOCK_" + key.upper().replace(".", "_")
    for environment, flags, origin in (({variable: value}, {}, variable), ({}, {key: value}, "flag")):
        with pytest.raises(ConfigurationError) as raised:
            load_settings(file=None, environment=environment, flags=flags)
        assert repr(key) in str(raised.value)
        assert origin in str(raised.value)


@pytest.mark.parametrize(
    "text",
    ["home = 5", "home = [1]", "[server]\nport = true", "[server]\nport = 1.5", "[server]\ndrain_s = nan"],
)
def test_a_file_value_that_does_not_fit_names_key_and_file(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"setting '(home|server\.\w+)' = .* \(given\.toml\): "):
        load(text)


def test_a_file_that_cannot_be_used() -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml"):
        load_settings(file=Path("none.toml"), environment={}, flags={})
    with pytest.raises(ConfigurationError, match=r"none\.toml"):
        load(None, {"PENSTOCK_CONFIG": "none.toml"})
    with pytest.raises(ConfigurationError, match="is not TOML"):
        load("port = = 1")
    Path("latin.toml").write_bytes(b'home = "\xe9"')
    with pytest.raises(ConfigurationError, match="is not TOML"):
        load_settings(file=Path("latin.toml"), environment={}, flags={})
    Path("folder.toml").mkdir()
    with pytest.raises(ConfigurationError, match=r"folder\.toml"):
        load_settings(file=Path("folder.toml"), environment={}, flags={})


@pytest.mark.parametrize("service", ["PENSTOCK", "PENSTOCK_SERVER", "PENSTOCK_WEB"])
def test_what_kubernetes_says_of_a_service_is_no_setting(service: str) -> None:
    environment = {
        f"{service}_SERVICE_HOST": "10.0.0.1",
        f"{service}_SERVICE_PORT": "8000",
        f"{service}_SERVICE_PORT_HTTP": "8000",
        f"{service}_PORT": "tcp://10.0.0.1:8000",
        f"{service}_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        f"{service}_PORT_8000_TCP_PROTO": "tcp",
        f"{service}_PORT_8000_TCP_PORT": "8000",
        f"{service}_PORT_8000_TCP_ADDR": "10.0.0.1",
    }
    assert load(None, environment).settings == Settings()


@pytest.mark.parametrize("variable", ["PENSTOCK_PORT", "PENSTOCK_SERVICE", "PENSTOCK_PORT_NUMBER"])
def test_what_only_looks_like_it_is_still_a_mistake(variable: str) -> None:
    with pytest.raises(ConfigurationError, match="unknown setting"):
        load(None, {variable: "8000"})
