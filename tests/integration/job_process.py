"""A process that takes on jobs and runs them, to be killed at any step: `python job_process.py HOME URL COUNT`.

Jobs are acknowledged on stdout, and each run of one is a line in the file `ledger`. The answer of job n is n².
With POISON=n in the environment job n ends the process, some time after the others began.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from penstock.core.clock import SystemClock
from penstock.core.errors import StorageFailed
from penstock.core.failpoints import FAILPOINT_VARIABLE, failpoints_of
from penstock.core.settings import JobsSettings
from penstock.log.embedded import EmbeddedLog
from penstock.observe.metrics import MetricSet
from penstock.serving.jobs.job import JobAnswer, JobRequest, NewJob
from penstock.serving.jobs.life import Outcome, Verdict
from penstock.serving.jobs.service import Jobs, JobsConfig
from penstock.serving.jobs.telling import JobLog
from penstock.serving.jobs.webhook_urls import Network

SECRET = "whsec_YSBzZWNyZXQgb2YgdGhlIHRlc3RzLCAzMiBieXRlcyE="
TOPIC = "crashing.jobs"


class Process:
    def __init__(self, home: Path, url: str) -> None:
        from penstock.serving.admission.rates.tenants import parse_networks

        self.home, self.url = home, url
        clock = SystemClock()
        settings = JobsSettings(
            lease_s=1.0,
            poll_s=0.05,
            running_max=8,
            attempts_max=2 if "POISON" in os.environ else 5,
            retry_first_s=0.1 if "POISON" in os.environ else 1.0,
            webhook_secret=SECRET,
            webhook_timeout_s=1.0,
        )
        allowed: tuple[Network, ...] = parse_networks("127.0.0.0/8")
        self.jobs = Jobs(
            JobsConfig(home, settings, allowed),
            self.execute,
            JobLog(TOPIC, lambda: EmbeddedLog(home / "log", clock)),
            MetricSet(),
            clock,
            failpoints_of(os.environ.get(FAILPOINT_VARIABLE)),
        )

    def execute(self, request: JobRequest) -> "asyncio.Future[Outcome]":
        number = int(request.body)
        with (self.home / "ledger").open("a") as ledger:
            ledger.write(f"{number}\n")
        if os.environ.get("POISON") == str(number):
            asyncio.get_running_loop().call_later(0.005, os.kill, os.getpid(), signal.SIGKILL)
        outcome = asyncio.get_running_loop().create_future()
        answer = JobAnswer(200, b"HTTP/1.1 200 OK\r\n", str(number**2).encode())
        asyncio.get_running_loop().call_later(0.01, outcome.set_result, Outcome(Verdict.DONE, answer))
        return outcome

    async def submit(self, number: int) -> str:
        name = os.urandom(8).hex()
        request = JobRequest("/", {}, str(number).encode(), "@")
        new = NewJob(name, "m", str(number), request, f"key {number}", webhook=f"{self.url}/{number}")
        try:
            enqueued = await self.jobs.submit(new)
        except StorageFailed:
            return await self.submit(number)  # nothing was acknowledged
        os.write(1, f"{number} {enqueued.job.id}\n".encode())
        return enqueued.job.id

    async def run(self, count: int) -> None:
        running = asyncio.ensure_future(self.jobs.run())
        names = []
        for start in range(0, count, 4):
            names += await asyncio.gather(
                *(self.submit(number) for number in range(start, min(count, start + 4)))
            )
            await asyncio.sleep(0.02)
        while not await self.through(names):  # noqa: ASYNC110 - others' work is waited for, too
            await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.wait([running])
        await self.jobs.finish(1.0)
        await self.jobs.close()

    async def through(self, names: list[str]) -> bool:
        """Whether all are finished, and all is told."""
        for name in names:
            job = await self.jobs.find(name, "@")
            if not job.state.final or job.webhook is None or job.webhook.status != "delivered":
                return False
        opened = self.jobs._opened
        assert opened is not None
        return not (await opened.store.due()).events


if __name__ == "__main__":
    asyncio.run(Process(Path(sys.argv[1]), sys.argv[2]).run(int(sys.argv[3])))
