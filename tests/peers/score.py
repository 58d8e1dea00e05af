#!/usr/bin/env python3
"""2,000 photos in a bucket, scored by processes, Slurm and Ray, parts of which are killed: one row a photo, with the values of `detect`.

    cargo build --release && cargo build --release -p dinomaly-tests --bin s3
    maturin build --release --manifest-path python/Cargo.toml --out wheels
    python3 -m venv VENV && VENV/bin/pip install duckdb==2.0.1 "ray[data]==2.60.0" wheels/dinomaly-*.whl
    VENV/bin/python tests/peers/score.py target/release/dinomaly target/release/s3 [--photos 2000] [--only processes slurm ray throughput]

The bucket's server is s3s-fs on this machine. Slurm (Debian: slurm-wlm, munge) is started as a cluster of this one machine, which needs root, and
stopped afterwards. Ray, with the Python package, has two workers on this machine. Throughput compares whole runs that read the same photos from the bucket and from a folder in memory (/dev/shm), in turns.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "native/assets/demo-model"
EXAMPLES = ROOT / "docs/examples"
SHARDS = 4
COLUMNS = "photo, score, threshold, normalised, defective, verdict, nearest"


class Bench:
    """Photos in a bucket, what `detect` says of them, and the environment to reach them."""

    def __init__(self, options, folder):
        self.program, self.folder = options.program.resolve(), folder
        drawn = folder / "drawn"
        words = ["generate", drawn, "--classes", "gear", "--size", options.size, "--seed", 3]
        self.run(*words, "--train", options.photos, "--good", 1, "--defective", 1)
        self.photos = folder / "buckets/photos/july"
        self.photos.parent.mkdir(parents=True)
        shutil.copytree(drawn / "gear/train/good", self.photos)
        (folder / "buckets/results").mkdir()
        shutil.rmtree(drawn)
        # One that cannot be read stands in for one that can.
        (sorted(self.photos.iterdir())[7]).write_bytes(b"no picture")
        self.names = sorted(path.name for path in self.photos.iterdir())
        csv = subprocess.run([self.program, "detect", MODEL, self.photos], capture_output=True, text=True)
        (folder / "detect.csv").write_text(csv.stdout)
        self.server = subprocess.Popen([options.server, folder / "buckets", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
        self.environment = os.environ | {
            "AWS_ACCESS_KEY_ID": "owner",
            "AWS_SECRET_ACCESS_KEY": "owner",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT": self.server.stdout.readline().strip(),
            "AWS_ALLOW_HTTP": "true",
            "MODEL": str(MODEL),
            "FROM": "s3://photos/july",
            "PATH": os.pathsep.join([str(self.program.parent), os.environ["PATH"]]),
        }

    def run(self, *words):
        return subprocess.run([self.program, *map(str, words)], check=True, capture_output=True, text=True).stdout

    def score(self, to, shard="0/1", place="s3://photos/july", part=100):
        words = ["score", MODEL, "--from", place, "--to", to, "--part-size", part, "--shard", shard]
        return subprocess.Popen([self.program, *map(str, words)], env=self.environment, stdout=subprocess.PIPE, text=True)

    def results(self, name):
        return self.folder / "buckets/results" / name

    def check(self, parquet):
        """Number of rows, after comparing them with `detect`."""
        types = "{'score': 'FLOAT', 'threshold': 'FLOAT', 'normalised': 'FLOAT'}"
        detected = f"(select * replace (parse_filename(photo) as photo) from read_csv('{self.folder}/detect.csv', types={types}))"
        scored = f"(select * replace (parse_filename(photo) as photo) from read_parquet('{parquet}'))"
        rows, photos, unreadable = duckdb.sql(f"select count(*), count(distinct photo), count(error) from {scored}").fetchall()[0]
        other = duckdb.sql(f"(select {COLUMNS} from {scored} where error is null) except (select {COLUMNS} from {detected})").fetchall()
        equal = rows - unreadable - len(other)
        assert (rows, photos, unreadable, other) == (len(self.names), len(self.names), 1, []), (rows, photos, unreadable, other[:3])
        return f"{rows} rows, {photos} photos, {unreadable} unreadable, {equal} equal to detect's"


def wait_for(condition, what, seconds=600):
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def processes(bench):
    """Four processes, of which two are killed after their first part and started again."""
    to, there = "s3://results/processes", bench.results("processes")
    running = [bench.score(to, f"{shard}/{SHARDS}", part=50) for shard in range(SHARDS)]
    for shard in (1, 3):
        wait_for(lambda: any(there.glob(f"part-{shard}-of-*.parquet")), "a first part")
        running[shard].kill()
        assert running[shard].wait() == -signal.SIGKILL
        running[shard] = bench.score(to, f"{shard}/{SHARDS}", part=50)
    told = [process.communicate()[0].strip() for process in running]
    assert all(process.returncode == 0 for process in running)
    print(*told, sep="\n")
    print("processes:", bench.check(f"{there}/*.parquet"))


def slurm(bench):
    """The array of docs/examples, of which one task is killed, which Slurm starts again."""
    home, host = bench.folder / "slurm", socket.gethostname().split(".")[0]
    (home / "state").mkdir(parents=True)
    (home / "slurm.conf").write_text(f"""ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
MinJobAge=3600
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.log
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
NodeName={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
""")
    environment = bench.environment | {"SLURM_CONF": str(home / "slurm.conf"), "TO": "s3://results/slurm"}
    daemons = []
    if not Path("/run/munge/munge.socket.2").exists():
        Path("/run/munge").mkdir(exist_ok=True)
        shutil.chown("/run/munge", "munge", "munge")
        daemons.append(subprocess.Popen(["runuser", "-u", "munge", "--", "munged", "--foreground"], stderr=subprocess.DEVNULL))
        wait_for(Path("/run/munge/munge.socket.2").exists, "munged", 20)
    for daemon in ("slurmctld", "slurmd"):
        daemons.append(subprocess.Popen([daemon, "-D"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def ask(*words):
        return subprocess.run(words, env=environment, capture_output=True, text=True, cwd=home).stdout

    try:
        wait_for(lambda: "idle" in ask("sinfo", "--noheader", "--format=%T"), "a node", 60)
        job = ask("sbatch", "--parsable", str(EXAMPLES / "score.sbatch")).strip()
        there = bench.results("slurm")
        wait_for(lambda: "RUNNING" in ask("squeue", "--noheader", "--format=%T"), "a task")
        killed = ask("squeue", "--noheader", "--states=RUNNING", "--format=%K").split()[0]
        time.sleep(1)
        print(f"slurm: job {job}, task {killed} is killed and queued again")
        ask("scontrol", "requeue", f"{job}_{killed}")
        wait_for(lambda: not ask("squeue", "--noheader").strip(), "the end of the array", 1800)
        print("slurm:", ask("scontrol", "--oneliner", "show", "job", f"{job}_{killed}").partition("Restarts=")[2].split()[0], "restart")
        print("slurm:", bench.check(f"{there}/*.parquet"))
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()


def ray(bench):
    """The example of docs/examples with two workers, of which one is killed while it computes."""
    # The bucket as a whole, and a folder: s3s-fs answers questions for a key that is a folder of its own with 500, which S3 answers with 404.
    to = bench.folder / "ray"
    words = [sys.executable, EXAMPLES / "score_ray.py", MODEL, "s3://photos", to, "--workers", 2, "--cores", 1]
    log = bench.folder / "ray.log"
    environment = bench.environment | {"AWS_ENDPOINT_URL": bench.environment["AWS_ENDPOINT"], "RAY_USAGE_STATS_ENABLED": "0"}
    with log.open("w") as said:
        process = subprocess.Popen([*map(str, words)], env=environment, stdout=said, stderr=said)
    try:
        def both_compute():
            assert process.poll() is None, log.read_text()[-3000:]
            return len(working(process.pid)) == 2

        wait_for(both_compute, "two workers that compute", 1200)
        # Into the first photos of a task.
        time.sleep(1)
        killed = min(working(process.pid))
        os.kill(killed, signal.SIGKILL)
        print(f"ray: worker {killed} is killed")
        assert process.wait(1800) == 0, log.read_text()[-3000:]
    finally:
        process.kill()
    print("ray:", bench.check(f"{to}/*.parquet"))


def working(ancestor):
    """Processes of Ray's workers below a process that compute now: Ray calls them so while they do."""
    parents, found = {}, set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if (folder / "cmdline").read_text().startswith("ray::MapWorker(MapBatches(Worker)).submit"):
                found.add(int(folder.name))
        except OSError:
            continue

    def is_below(process):
        return process == ancestor or (process in parents and is_below(parents[process]))

    return {process for process in found if is_below(process)}


def throughput(bench):
    """Whole runs from the bucket and from memory, in turns, the first of a round by turns, too; seconds that passed and on the processor."""
    memory = Path(tempfile.mkdtemp(dir="/dev/shm"))
    shutil.copytree(bench.photos, memory / "photos")
    places = [("bucket", "s3://photos/july"), ("memory", str(memory / "photos"))]
    rows = []
    try:
        for turn in range(bench.rounds):
            row = {}
            for name, place in places if turn % 2 else reversed(places):
                served, begun = processor_seconds(bench.server.pid), time.monotonic()
                process = bench.score(bench.folder / f"{name}-{turn}", place=place, part=1000)
                process.stdout.read()
                _, status, used = os.wait4(process.pid, 0)
                assert status == 0
                row[name] = time.monotonic() - begun
                row[f"{name}, processor"] = used.ru_utime + used.ru_stime
                row[f"{name}, server"] = processor_seconds(bench.server.pid) - served
            rows.append(row)
            print({name: round(seconds, 2) for name, seconds in row.items()}, file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(memory)
    print("throughput:", json.dumps({name: round(statistics.median(row[name] for row in rows), 2) for name in sorted(rows[0])}))
    for kind in ["", ", processor"]:
        ratios = sorted(row[f"memory{kind}"] / row[f"bucket{kind}"] for row in rows)
        print(f"bucket / memory{kind}: {statistics.median(ratios):.3f}, of {len(ratios)} rounds {ratios[0]:.3f} to {ratios[-1]:.3f}")


def processor_seconds(process):
    """Seconds that a process has been on the processor."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


STEPS = {"processes": processes, "slurm": slurm, "ray": ray, "throughput": throughput}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=Path)
    parser.add_argument("server", type=Path)
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, Path(folder))
        bench.rounds = options.rounds
        try:
            for step in options.only:
                STEPS[step](bench)
        finally:
            bench.server.terminate()


if __name__ == "__main__":
    main()
