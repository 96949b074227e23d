"""Apache Kafka's jars, fetched once with Maven into `.kafka`."""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["Unavailable", "java_and_jars"]

POM = Path(__file__).with_name("pom.xml")
KEPT = Path(__file__).parents[2] / ".kafka"
FETCH_S_MAX = 600
JAVA_MIN = 17


class Unavailable(Exception):
    """Kafka cannot be started on this machine; the message says what it lacks."""


def java_and_jars() -> tuple[str, Path]:
    """The program `java`, and the folder with Kafka's jars, fetched where they are not there yet.

    Raises `Unavailable` without Java or Maven, and where Maven fails.
    """
    return _java(), _jars()


def _java() -> str:
    java = shutil.which("java")
    if java is None:
        raise Unavailable(f"java is not installed: Kafka needs Java {JAVA_MIN} or later")
    told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    version = told.partition('"')[2].partition('"')[0]
    major = version.partition(".")[0]
    if not major.isdigit() or int(major) < JAVA_MIN:
        raise Unavailable(f"{java} is Java {version or 'of no known version'}: Kafka needs {JAVA_MIN} or later")
    return java


def _jars() -> Path:
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()
    jars, stamp = KEPT / "jars", KEPT / "digest"
    KEPT.mkdir(exist_ok=True)
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.is_file() or stamp.read_text() != digest:
            stamp.unlink(missing_ok=True)
            shutil.rmtree(jars, ignore_errors=True)
            _fetch(jars)
            stamp.write_text(digest)
    return jars


def _fetch(jars: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise Unavailable("mvn is not installed: Kafka is fetched with Maven")
    sys.stderr.write("fetching Kafka with Maven (once) ...\n")
    command = [maven, "--batch-mode", "--quiet", "--file", str(POM)]
    command += ["dependency:copy-dependencies", f"-DoutputDirectory={jars}", "-DincludeScope=runtime"]
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=FETCH_S_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"Maven has not fetched Kafka within {FETCH_S_MAX} s") from error
    if done.returncode != 0:
        raise Unavailable(f"Maven could not fetch Kafka:\n{done.stdout[-2000:]}")
