"""The options of `penstock drill surge`."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "AllowLimitedOption",
    "AllowRemoteOption",
    "ApiKeyOption",
    "BaseOption",
    "BinaryOption",
    "BodiesOption",
    "BodyOption",
    "CapacityOption",
    "ClassOption",
    "ConnectionsOption",
    "DeadlineOption",
    "DurationOption",
    "HtmlOption",
    "JsonFileOption",
    "MaxRequestsOption",
    "ObjectiveOption",
    "PeakOption",
    "ProcessesOption",
    "RequireOption",
    "RetriesOption",
    "RetryDelayOption",
    "RowsOption",
    "SeedOption",
    "ShapeOption",
    "TenantOption",
    "TimeoutOption",
    "TraceOption",
    "TracePartOption",
    "UrlOption",
    "VersionOption",
]

_LOAD, _WHO, _SENDING, _REPORT = "The load", "Who asks", "How it is sent", "The report"


def _option(help: str, panel: str, *names: str, metavar: str | None = None) -> typer.models.OptionInfo:  # noqa: A002
    found: typer.models.OptionInfo = typer.Option(*names, help=help, rich_help_panel=panel, metavar=metavar)
    return found


VersionOption = Annotated[str | None, _option("Ask this version.", _LOAD)]
UrlOption = Annotated[str | None, _option("The server (default: where the settings have one).", _LOAD)]
ShapeOption = Annotated[str, _option("constant, step, spike, ramp or flash-crowd.", _LOAD)]
TraceOption = Annotated[Path | None, _option("Arrivals of a file (.csv, .csv.gz) instead of a shape.", _LOAD)]
TracePartOption = Annotated[str, _option("Which part of its span, e.g. 0.6:1.", _LOAD, metavar="FROM:TO")]
BaseOption = Annotated[str, _option("Normal load: requests/s, or 0.5x of the capacity.", _LOAD, metavar="RATE")]
PeakOption = Annotated[
    str, _option("The highest load: requests/s, or 5x of the capacity.", _LOAD, metavar="RATE")
]
CapacityOption = Annotated[
    str, _option("Requests/s that the server can do; auto measures it first.", _LOAD, metavar="RATE|auto")
]
DurationOption = Annotated[float, _option("Seconds.", _LOAD)]
MaxRequestsOption = Annotated[int, _option("End after so many requests (without retries).", _LOAD)]
SeedOption = Annotated[int, _option("The same seed draws the same arrivals.", _LOAD)]

ClassOption = Annotated[
    list[str] | None, _option("Classes by weight; repeat it.", _WHO, "--class", metavar="CLASS=WEIGHT")
]
TenantOption = Annotated[list[str] | None, _option("Tenants by weight.", _WHO, metavar="NAME=WEIGHT")]
ApiKeyOption = Annotated[
    list[str] | None, _option("A tenant's key (default: its name).", _WHO, metavar="NAME=KEY|NAME=env:VARIABLE")
]
RetriesOption = Annotated[
    int | None, _option("How often refused and timed out clients come back (flash-crowd: 3, else 0).", _WHO)
]
RetryDelayOption = Annotated[float, _option("After how long; 0 is at once.", _WHO)]

ObjectiveOption = Annotated[float, _option("Good is an answer within so long of its intended time.", _SENDING)]
DeadlineOption = Annotated[
    float | None, _option("What requests say in x-request-timeout-ms (default: the objective).", _SENDING)
]
TimeoutOption = Annotated[float, _option("How long clients wait before they leave.", _SENDING)]
BodyOption = Annotated[
    Path | None, _option("A V2 request to send (default: drawn to fit the model).", _SENDING)
]
RowsOption = Annotated[int, _option("Rows of a drawn request.", _SENDING)]
BodiesOption = Annotated[int, _option("Different requests that are drawn; a cache soon knows them.", _SENDING)]
BinaryOption = Annotated[bool, _option("Draw requests with tensors in binary.", _SENDING, "--binary")]
ProcessesOption = Annotated[int, _option("Processes of the generator.", _SENDING)]
ConnectionsOption = Annotated[int, _option("Connections, opened before the load begins.", _SENDING)]
AllowRemoteOption = Annotated[bool, _option("Let the load go to another machine.", _SENDING, "--allow-remote")]

RequireOption = Annotated[
    list[str] | None, _option("E.g. 'goodput>=0.95', 'good[CRITICAL]>=0.99', 'p99_ms<=100'.", _REPORT)
]
HtmlOption = Annotated[Path | None, _option("Write it as a page.", _REPORT)]
JsonFileOption = Annotated[Path | None, _option("Write it as JSON.", _REPORT)]
AllowLimitedOption = Annotated[
    bool, _option("Give a verdict even where the generator was the limit.", _REPORT, "--allow-limited")
]
