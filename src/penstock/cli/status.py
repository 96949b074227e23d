"""`penstock status`: what runs from this home folder."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from penstock.cli.jobs import counts_line
from penstock.cli.options import ConfigOption, JsonOption, SetOption, settings_from
from penstock.cli.output import print_json, print_text
from penstock.core.errors import NotFound

if TYPE_CHECKING:
    from penstock.serving.statistics import DeploymentStatistics
    from penstock.supervision.messages import LoadedModel
    from penstock.supervision.status import InstanceStatus, WorkerStatus

__all__ = ["status"]

MIB = 1024 * 1024


def status(as_json: JsonOption = False, config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Show the running servers: processes, models, streams, what is wrong. Status 1 where one is not ready."""
    from penstock.supervision.status import read_statuses

    settings = settings_from(config, overrides).settings
    home = settings.home
    found = read_statuses(home)
    if not found:
        raise NotFound(f"nothing runs from {home}", hint="start it: penstock run app.py")
    if as_json:
        print_json([_without_measures(each) for each in found])
    else:
        for each in found:
            for line in _lines(each):
                print_text(line)
        jobs = counts_line(settings)
        if jobs is not None:
            print_text(jobs)
    if not all(each.ready and each.streams_ready for each in found):
        raise typer.Exit(1)


def _without_measures(instance: "InstanceStatus") -> dict[str, object]:
    """What `/metrics` and V2's statistics show is left to them, but for what keeps requests from a model."""
    import msgspec

    from penstock.serving.statistics import told_beside

    plain: dict[str, object] = msgspec.to_builtins(instance)
    workers = plain["workers"]
    assert isinstance(workers, list | tuple)
    for worker in workers:
        if worker["report"] is not None:
            for measured in ("declared", "metrics", "statistics", "type", "request"):
                worker["report"].pop(measured, None)
    plain["streams_ready"] = instance.streams_ready
    plain["statistics"] = [
        {"model": each.model, "version": each.version, **told_beside(each)} for each in instance.statistics
    ]
    return plain


def _lines(instance: "InstanceStatus") -> Iterator[str]:
    state = "stopping" if instance.stopping else "ready" if instance.ready else "NOT READY"
    if not instance.stopping and not instance.streams_ready:
        state += ", STREAMS NOT READY"
    grpc = f"  grpc port {instance.grpc_port}" if instance.grpc_port >= 0 else ""
    yield f"{instance.app}  {state}  {instance.url}{grpc}  (pid {instance.pid}, penstock {instance.version})"
    for place, worker in enumerate(instance.workers):
        last = place == len(instance.workers) - 1
        yield ("└─ " if last else "├─ ") + _worker_line(worker)
        for line in (*_model_lines(worker), *_partition_lines(worker)):
            yield ("   " if last else "│  ") + line
    for each in instance.statistics:
        yield from _statistics_lines(each)


def _statistics_lines(each: "DeploymentStatistics") -> Iterator[str]:
    """Of a version with a cache, a breaker or a ladder: what these have done in all workers."""
    said = []
    if (cache := each.cache) is not None:
        said.append(f"cache {cache.hit_ratio:.1%} of {cache.asked} hit, {cache.saved_s:.1f} s saved")
    if (breaker := each.breaker) is not None and breaker.states:
        said.append("breaker " + ", ".join(f"{state} in {n}" for state, n in sorted(breaker.states.items())))
    if (ladder := each.ladder) is not None:
        rungs = ", ".join(f"{name} {counts.answered}" for name, counts in ladder.rungs.items())
        said.append(f"answered by {rungs}, none {ladder.exhausted}")
        if ladder.browned_out:
            said.append(f"BROWN-OUT in {ladder.browned_out}")
    if said:
        yield f"{each.model}:{each.version}  " + "  ".join(said)


def _worker_line(worker: "WorkerStatus") -> str:
    said = [f"{worker.role} {worker.number}", worker.state]
    if worker.pid is not None:
        said.append(f"pid {worker.pid}, up {_duration(worker.up_s)}")
    elif worker.next_start_s > 0:
        said.append(f"next start in {worker.next_start_s:.1f} s")
    if worker.report is not None:
        connections = f"{worker.report.connections} connections, " if worker.role == "worker" else ""
        said.append(f"{connections}{worker.report.resident_bytes // MIB} MiB")
    if worker.restarts:
        times = "once" if worker.restarts == 1 else f"{worker.restarts} times"
        said.append(f"restarted {times}, last because it {worker.cause}")
    return "  ".join(said)


def _model_lines(worker: "WorkerStatus") -> Iterator[str]:
    if worker.report is None:
        return
    for model in sorted(worker.report.models, key=_name):
        said = [f"{model.model}:{model.version}", "answers" if model.default else "loaded", model.platform]
        if model.pid is not None:
            said.append(f"pid {model.pid}")
        said.append(f"{model.memory_bytes / MIB:.1f} MiB")
        if model.fault is not None:
            said.append(f"FAULT: {model.fault}")
        yield "   " + "  ".join(said)
    for name, problem in worker.report.problems.items():
        yield f"   {name}: {problem}"


def _partition_lines(worker: "WorkerStatus") -> Iterator[str]:
    for each in worker.report.streams if worker.report is not None else ():
        state = "" if each.state == "running" else f"{each.state.upper()}  "
        counted = [f"lag {each.lag}", f"{each.rows_per_s:.0f} rows/s"]
        counted += [
            f"{name} {count}"
            for name, count in (
                *(("late", each.late), ("dead letters", each.dead)),
                *(("expired unread", each.expired), ("keys", each.keys), ("crashes", each.crashes)),
            )
            if count
        ]
        yield f"   {each.topic}/{each.partition}  {state}{', '.join(counted)}"
        if each.suspects:
            yield f"   {each.topic}/{each.partition}  CAREFUL  {each.suspects}"


def _name(model: "LoadedModel") -> tuple[str, bool, str]:
    return model.model, not model.default, model.version


def _duration(seconds: float) -> str:
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
