"""The page to try models on: one document without anything from elsewhere."""

import base64
import hashlib
import re
from dataclasses import dataclass
from importlib import resources

__all__ = ["Page"]

_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


@dataclass(frozen=True)
class Page:
    """The page, and headers that let a browser run what stands in it and load nothing."""

    content: bytes
    headers: tuple[tuple[str, str], ...]

    @classmethod
    def load(cls) -> "Page":
        """From the package's files."""
        folder = resources.files(__package__)
        page, style, script = (
            (folder / name).read_text(encoding="utf-8")
            for name in ("try_page.html", "try_page.css", "try_page.js")
        )
        text = page.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
        policy = "; ".join(
            (
                "default-src 'none'",
                f"style-src {_hashes(_STYLE, text)}",
                f"script-src {_hashes(_SCRIPT, text)}",
                "connect-src 'self'",
                "img-src data:",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            )
        )
        headers = (
            ("content-security-policy", policy),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-cache"),
        )
        return cls(text.encode(), headers)


def _hashes(element: re.Pattern[str], text: str) -> str:
    """The digests by which a content security policy knows what stands in the page."""
    digests = [hashlib.sha256(found.encode()).digest() for found in element.findall(text)]
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
