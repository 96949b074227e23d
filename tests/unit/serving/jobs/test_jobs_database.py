from pathlib import Path

import pytest

from penstock.core.clock import ManualClock
from penstock.serving.jobs.database import JobDatabase, apps_with_jobs, jobs_exist, jobs_folder

NAMES = ["alpha", "a b/c", "..", ".", "é", "%2E", "_2e"]


@pytest.mark.parametrize("app", NAMES)
def test_each_app_has_a_folder_of_its_own_inside_the_home(tmp_path: Path, app: str) -> None:
    folder = jobs_folder(tmp_path, app)
    assert folder.resolve().parent == (tmp_path / "jobs").resolve()
    assert not jobs_exist(folder)
    assert apps_with_jobs(tmp_path) == []
    JobDatabase.open(folder, ManualClock()).close()
    assert jobs_exist(folder)
    assert apps_with_jobs(tmp_path) == [app]


def test_no_two_apps_have_the_same(tmp_path: Path) -> None:
    assert len({jobs_folder(tmp_path, app) for app in NAMES}) == len(NAMES)


def test_its_files_are_nobody_elses_to_read(tmp_path: Path) -> None:
    database = JobDatabase.open(jobs_folder(tmp_path, "alpha"), ManualClock())
    files = [file for file in jobs_folder(tmp_path, "alpha").iterdir() if file.name.startswith("jobs.db")]
    assert len(files) == 3, "with what SQLite has beside it"
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    database.close()
