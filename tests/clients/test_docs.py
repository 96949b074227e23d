"""Every example of docs/clients is run, in its client's environment, against the app that the pages show.

A fenced block says in its info string that it is to be run, and where (`client=triton`; `client=plain` is
Penstock's own environment); a block of text right after it is what it prints, `…` standing for anything.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from client_docs import DOCS, FENCE
from client_server import ClientServer, client_python

EXAMPLE_S_MAX = 60
_PRINTED = re.compile(r"\s*^```text\n(?P<text>.*?)^```$", flags=re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A block that is run, and what it prints; None: that is not told."""

    page: str
    line: int
    language: str
    client: str
    text: str
    printed: str | None


def examples(page: Path) -> Iterator[Example]:
    content = page.read_text(encoding="utf-8")
    for block in FENCE.finditer(content):
        language, *options = block["info"].split() or [""]
        clients = [option.removeprefix("client=") for option in options if option.startswith("client=")]
        if clients:
            printed = _PRINTED.match(content, block.end())
            yield Example(
                page=page.name,
                line=content.count("\n", 0, block.start()) + 1,
                language=language,
                client=clients[0],
                text=block["text"],
                printed=None if printed is None else printed["text"],
            )


EXAMPLES = [example for page in sorted(DOCS.glob("*.md")) for example in examples(page)]


def command(example: Example, text: str) -> tuple[list[str], dict[str, str]]:
    """What runs the example, and the environment that it needs."""
    python = Path(sys.executable) if example.client == "plain" else client_python(example.client)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    environment = kept | {"PATH": f"{python.parent}:{os.environ['PATH']}"}
    runs = {"python": [str(python), "-W", "ignore", "-c", text], "sh": ["bash", "-euo", "pipefail", "-c", text]}
    return runs[example.language], environment


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: f"{each.page}:{each.line}")
def test_example(taxis: ClientServer, tmp_path: Path, example: Example) -> None:
    text = example.text.replace("127.0.0.1:8001", f"127.0.0.1:{taxis.server.grpc_port}")
    # A port may stand for itself: `ScoringServerClient("127.0.0.1", 8000)`.
    text = re.sub(r"\b8000\b", str(taxis.server.port), text)
    arguments, environment = command(example, text)
    done = subprocess.run(
        arguments,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=EXAMPLE_S_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if example.printed is not None:
        wanted = ".*".join(re.escape(part) for part in example.printed.strip().split("…"))
        assert re.fullmatch(wanted, done.stdout.strip(), flags=re.DOTALL), done.stdout


@pytest.mark.parametrize("page", ["penstock.md", "triton.md", "kserve.md", "mlflow.md", "http.md"])
def test_every_page_has_an_example(page: str) -> None:
    assert any(example.page == page and example.printed for example in EXAMPLES)


def test_every_page_is_listed() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    assert all(f"]({page.name})" in index for page in DOCS.glob("*.md") if page.name != "README.md")
