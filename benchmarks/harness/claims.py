"""From results to tables, ratios and the JSON."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.harness.figure import Result

__all__ = ["print_tables", "ratios", "summary"]


def ratios(results: Sequence[Result]) -> dict[str, float | None]:
    """Every claimed value by its name."""
    return {claim.name: claim.value for result in results for claim in result.claims}


def summary(results: Sequence[Result], failures: Mapping[str, str]) -> dict[str, object]:
    """The `figures` of the JSON: the facts of each result, what was wanted, and what could not be measured."""
    wanted = {
        claim.name: {"wanted": claim.bound, "met": claim.met} for result in results for claim in result.claims
    }
    facts = {result.name: result.facts | {"remarks": result.remarks} for result in results}
    return {**facts, "claims": wanted, "failures": dict(failures)}


def print_tables(results: Sequence[Result], console: Console) -> None:
    claims = Table("figure", "claim", "wanted", "measured", "")
    for result in results:
        for claim in result.claims:
            value = "not measured" if claim.value is None else f"{claim.value:,.3g}"
            claims.add_row(result.name, claim.name, claim.bound, value, "SHORT" if claim.met is False else "")
    for column in claims.columns[2:4]:
        column.justify = "right"
    console.print(claims)
    for result in results:
        table = Table(result.name, "measured")
        table.columns[1].justify = "right"
        for line in result.lines:
            table.add_row(*line)
        console.print(table)
        for remark in result.remarks:
            console.print(f"{result.name}: {remark}")
