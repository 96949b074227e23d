"""The page to try models on, in a real browser."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from plane_server import MODELS, PATIENCE_S, PlaneServer, plane_server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
ROWS = {
    "distance": np.array([120.5, np.nan], dtype=np.float32),
    "carrier": np.array(["AA", "Zürich Air"], dtype=object),
    "stops": np.array([0, 2], dtype=np.int16),
}

needs_browser = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="no chromium: apt-get install chromium chromium-driver"
)


@pytest.fixture(scope="module")
def server() -> Iterator[PlaneServer]:
    with plane_server(*(name for name in MODELS if name != "fare")) as running:
        running.add("fare", "7", example=ROWS)
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-proxy-server"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield browser
    browser.quit()


@pytest.fixture
def page(chromium: Any, server: PlaneServer) -> Any:
    chromium.get("about:blank")
    chromium.get_log("browser")
    chromium.get_log("performance")
    chromium.get(f"{server.url}/docs#fare")
    wait(chromium, lambda: chromium.find_element("id", "body").get_attribute("value"))
    return chromium


def wait(browser: Any, condition: Any) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, PATIENCE_S, poll_frequency=0.05).until(lambda _: condition())


def text(browser: Any, name: str) -> str:
    return str(browser.find_element("id", name).get_attribute("textContent"))


def choose(browser: Any, value: str) -> None:
    browser.execute_script(
        "[...document.querySelectorAll('input[type=radio]')].find((e) => e.value === arguments[0]).click()",
        value,
    )


def send(browser: Any) -> tuple[str, Any]:
    """Presses Send; the status line and the answer."""
    browser.execute_script("document.getElementById('status').textContent = ''")
    browser.find_element("id", "send").click()
    wait(browser, lambda: text(browser, "status"))
    return text(browser, "status"), json.loads(text(browser, "answer"))


def edit(browser: Any, body: object) -> None:
    area = browser.find_element("id", "body")
    browser.execute_script(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
        area,
        json.dumps(body),
    )


@needs_browser
@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "instances", "inputs"])
def test_the_example_is_answered(page: Any, form: str) -> None:
    choose(page, form)
    status, answer = send(page)
    assert re.fullmatch(r"200 OK · [\d.]+ ms · version 7", status)
    records = [
        {"fare": 341.0, "label": "AA!", "parts": [120.5, 341.0]},
        {"fare": None, "label": "Zürich Air!", "parts": [None, None]},
    ]
    by_column = {name: [record[name] for record in records] for name in records[0]}
    assert answer == {"predictions": by_column if form == "inputs" else records}


@needs_browser
def test_every_model_answers_its_examples(page: Any) -> None:
    options = page.find_elements("css selector", "#model option")
    assert sorted(option.text for option in options) == sorted(MODELS)
    for model in [option.text for option in options]:
        page.execute_script(
            "const pick = document.getElementById('model'); pick.value = arguments[0];"
            "pick.dispatchEvent(new Event('change'))",
            model,
        )
        for radio in page.find_elements("css selector", "#forms input"):
            choose(page, radio.get_attribute("value"))
            status, _ = send(page)
            assert status.startswith("200 "), (model, status)


@needs_browser
def test_the_signature_is_shown(page: Any) -> None:
    rows = [
        [cell.text for cell in row.find_elements("css selector", "th, td")]
        for row in page.find_elements("css selector", "#inputs tr")
    ]
    assert rows == [
        ["distance", "FP32", "rows", "may be null"],
        ["carrier", "STRING", "rows", "AA, B6, Zürich Air"],
        ["stops", "INT16", "rows", "–"],
    ]
    outputs = [row.text for row in page.find_elements("css selector", "#outputs tr")]
    assert outputs == ["fare FP32 rows", "label STRING rows", "parts FP32 rows × 2"]


@needs_browser
def test_mistakes_are_shown_in_a_table(page: Any) -> None:
    choose(page, "dataframe_records")
    edit(page, {"dataframe_records": [{"distance": "far", "carrier": "<b>QQ</b>", "stops": 1}]})
    status, answer = send(page)
    assert status.startswith("400 ")
    assert len(answer["fields"]) == 2
    rows = [row.text for row in page.find_elements("css selector", "#fields tr")]
    assert rows[0] == "0 distance a number 'far'"
    assert "'<b>QQ</b>'" in rows[1]
    assert not page.find_elements("css selector", "#fields b")


@needs_browser
def test_edits_are_kept_and_can_be_reset(page: Any) -> None:
    choose(page, "instances")
    example = page.find_element("id", "body").get_attribute("value")
    edit(page, {"instances": []})
    choose(page, "inputs")
    choose(page, "instances")
    assert json.loads(page.find_element("id", "body").get_attribute("value")) == {"instances": []}
    page.find_element("id", "reset").click()
    assert page.find_element("id", "body").get_attribute("value") == example


@needs_browser
def test_the_keyboard_sends(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    page.find_element("id", "body").send_keys(Keys.CONTROL, Keys.ENTER)
    wait(page, lambda: text(page, "status").startswith("200 "))


@needs_browser
def test_controls_have_names(page: Any) -> None:
    for control in page.find_elements("css selector", "button, input, select, textarea, table, section"):
        hidden = control.tag_name == "table" and not control.is_displayed()
        assert hidden or control.accessible_name, control.get_attribute("outerHTML")


@needs_browser
def test_code_runs_as_it_is_shown(page: Any) -> None:
    """In a shell, in Python and in the page itself."""
    choose(page, "dataframe_records")
    edit(page, {"dataframe_records": [{"distance": 1, "carrier": "Zürich Air", "stops": 2}]})
    expected = {"predictions": [{"fare": 4.0, "label": "Zürich Air!", "parts": [1.0, 4.0]}]}
    choose(page, "curl")
    if shutil.which("curl"):
        ran = subprocess.run(
            ["bash", "-c", text(page, "code")], capture_output=True, check=True, timeout=PATIENCE_S
        )
        assert json.loads(ran.stdout) == expected
    choose(page, "Python")
    ran = subprocess.run(
        [sys.executable, "-c", text(page, "code")], capture_output=True, check=True, timeout=PATIENCE_S, env={}
    )
    assert ran.stdout.decode().strip() == repr(expected)
    choose(page, "JavaScript")
    code = text(page, "code").replace("console.log(await answer.json())", "return await answer.json()")
    assert page.execute_script(f"return (async () => {{ {code} }})()") == expected


@needs_browser
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits(page: Any, width: int) -> None:
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False},
    )
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@needs_browser
def test_nothing_is_fetched_from_elsewhere_and_nothing_complains(page: Any, server: PlaneServer) -> None:
    send(page)
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert urls
    assert all(url.startswith((server.url, "data:", "about:")) for url in urls), urls
    assert page.get_log("browser") == []


def test_the_policy_lets_nothing_else_run(server: PlaneServer) -> None:
    response = httpx.get(f"{server.url}/docs", trust_env=False)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert not re.search(r"(src|href)=\"(https?:)?//", response.text)
    assert not re.search(r"\sstyle=|\son\w+=", response.text)
