"""The pages of docs/clients, read: fenced blocks, and the app that the pages ask."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "clients"
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def shown_app() -> str:
    """The text of the app."""
    blocks = FENCE.finditer((DOCS / "README.md").read_text(encoding="utf-8"))
    (text,) = [block["text"] for block in blocks if block["info"] == "python app"]
    return text
