"""`dinomaly score` and the files of docs/examples: the same rows, however they are computed."""

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import kubernetes_validate
import pytest
import yaml

from conftest import DEMO_MODEL, ROOT, program

EXAMPLES = ROOT / "docs/examples"
COLUMNS = ["photo", "score", "threshold", "normalised", "defective", "verdict", "nearest"]


def rows(folder):
    """All rows of a folder's results, sorted by photo."""
    table = duckdb.sql(f"select {', '.join(COLUMNS)}, error from read_parquet('{folder}/*.parquet') order by photo")
    return table.fetchall()


@pytest.fixture(scope="module")
def photos(drawn, tmp_path_factory):
    """Photos, one of them damaged."""
    folder = tmp_path_factory.mktemp("scored") / "photos"
    folder.mkdir()
    for i, photo in enumerate(sorted(drawn.rglob("*.png"))):
        if "ground_truth" not in photo.parts:
            (folder / f"{i}.png").write_bytes(photo.read_bytes())
    (folder / "damaged.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def scored(photos, tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    program("score", DEMO_MODEL, "--from", photos, "--to", results, "--part-size", 4)
    return results


def test_duckdb_has_the_values_of_detect(photos, scored):
    good = [path for path in sorted(photos.iterdir()) if path.name != "damaged.png"]
    csv = program("detect", DEMO_MODEL, *good).stdout
    (photos.parent / "detected.csv").write_text(csv)
    types = "{'score': 'FLOAT', 'threshold': 'FLOAT', 'normalised': 'FLOAT'}"
    read = f"read_csv('{photos.parent}/detected.csv', types={types})"
    names = ", ".join(column for column in COLUMNS[1:])
    expected = duckdb.sql(f"select parse_filename(photo) as photo, {names} from {read} order by photo").fetchall()
    found = rows(scored)
    assert [row[:-1] for row in found if row[-1] is None] == expected
    assert [row[0] for row in found if row[-1] is not None] == ["damaged.png"]


def test_the_queries_run(scored, monkeypatch):
    monkeypatch.chdir(scored)
    with duckdb.connect() as connection:
        statements = duckdb.extract_statements((EXAMPLES / "scores.sql").read_text())
        answers = [connection.execute(statement).fetchall() for statement in statements]
    count, folders, about = answers[1], answers[2], answers[4]
    assert count[0][0] == count[0][1] == sum(row[2] for row in folders) + 1 and count[0][2] == 1
    assert [key for key, _ in about] == ["dinomaly.model", "dinomaly.model_sha256"]


@pytest.mark.skipif(os.name == "nt", reason="the container has sh")
def test_the_job_of_kubernetes_is_valid_and_its_command_scores_every_photo(photos, scored, tmp_path):
    job = yaml.safe_load((EXAMPLES / "score-job.yaml").read_text())
    kubernetes_validate.validate(job, "1.34", strict=True)
    container = job["spec"]["template"]["spec"]["containers"][0]
    given = {variable["name"] for variable in container["env"]}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for index in range(job["spec"]["completions"]):
        places = {"MODEL": str(DEMO_MODEL), "FROM": str(photos), "TO": str(tmp_path)}
        assert given == set(places)
        environment = os.environ | places | {"JOB_COMPLETION_INDEX": str(index), "PATH": path}
        subprocess.run(container["command"], env=environment, check=True, capture_output=True)
    assert rows(tmp_path) == rows(scored)
