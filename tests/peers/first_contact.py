#!/usr/bin/env python3
"""Processor time of a newcomer's two commands, from a fresh clone with an empty target folder.

    tests/peers/first_contact.py demo 1d659e4 HEAD      # until the page answers
    tests/peers/first_contact.py verify 1d659e4 HEAD    # to its end

Each commit is cloned into a temporary folder. Its crates are fetched first, so that the network is not measured.
Prints user and system seconds of all processes, and elapsed seconds. On Linux, those that outlive their parents are counted, too:
browsers that tests end.
"""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

PORT = 8931
PR_SET_CHILD_SUBREAPER = 36


def main():
    command, commits = sys.argv[1], sys.argv[2:]
    if sys.platform == "linux":
        # Processes whose parents are gone become this one's, which waits for them.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    repository = Path(__file__).resolve().parents[2]
    for commit in commits:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            clone = Path(folder) / "clone"
            run(["git", "clone", "--quiet", repository, clone])
            run(["git", "checkout", "--quiet", commit], cwd=clone)
            run(["cargo", "fetch", "--quiet", "--locked"], cwd=clone)
            before, begun = processor_time(), time.monotonic()
            {"demo": demo, "verify": verify}[command](clone)
            wait_for_all()
            spent, elapsed = processor_time() - before, time.monotonic() - begun
            print(f"cargo {command} at {commit}: {spent:.0f} s of processor time, {elapsed:.0f} s elapsed", flush=True)


def demo(clone):
    """Runs the demo until its page answers."""
    command = ["cargo", "demo", "--port", str(PORT)]
    process = subprocess.Popen(command, cwd=clone, start_new_session=True)
    while not answers():
        if process.poll() is not None:
            sys.exit(f"{command} ended with {process.returncode}")
        time.sleep(1)
    # To the whole group: the demo builds further modules meanwhile.
    os.killpg(process.pid, signal.SIGINT)
    process.wait()


def answers():
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def verify(clone):
    run(["cargo", "verify"], cwd=clone)


def wait_for_all():
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass


def run(command, **options):
    subprocess.run(command, check=True, **options)


def processor_time():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


main()
