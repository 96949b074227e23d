"""`/openapi.json` and `/docs`."""

from penstock.serving.plane import DataPlane
from penstock.serving.protocols.http.messages import HttpRequest
from penstock.serving.protocols.http.responder import JSON, Responder, require_method
from penstock.serving.protocols.web.openapi import build_document
from penstock.serving.protocols.web.page import Page

__all__ = ["WebRest"]


class WebRest:
    """Answers what a browser or a code generator asks."""

    def __init__(self, plane: DataPlane, responder: Responder, *, version: str) -> None:
        self._plane = plane
        self._responder = responder
        self._version = version
        self._document: bytes | None = None
        """Made when it is asked for, until what is served changes."""
        self._page: Page | None = None
        plane.on_changed(self._changed)

    def route(self, request: HttpRequest) -> bool:
        """Answers the request; False for paths of others."""
        match request.target.partition(b"?")[0].strip(b"/"):
            case b"openapi.json":
                require_method(request, "GET")
                if self._document is None:
                    self._document = build_document(self._plane, version=self._version)
                self._responder.send(request, 200, JSON, self._document, (("cache-control", "no-cache"),))
            case b"docs":
                require_method(request, "GET")
                if self._page is None:
                    self._page = Page.load()
                page = self._page
                self._responder.send(request, 200, "text/html; charset=utf-8", page.content, page.headers)
            case _:
                return False
        return True

    def _changed(self) -> None:
        self._document = None
