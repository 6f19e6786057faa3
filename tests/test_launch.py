"""The launchers, run with recorders in place of the clouds' commands."""

import json
import os
import shlex
import subprocess

import pytest
import yaml

FLAGS = ["--config=configs/svhn.py:smoke", "--config.tasks=('generate',)"]
RECORD = """#!/usr/bin/env bash
{ printf '%s' "$(basename "$0")"; printf '\\t%s' "$@"; printf '\\n'; } >>"$CALLS"
exit "${STATUS:-0}"
"""


@pytest.fixture
def call(tmp_path, repo):
    """call(command, recorded, **variables) -> (finished process, calls of recorded commands)."""

    def call(command, recorded, cwd=repo, **variables):
        calls, folder = tmp_path / "calls", tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        calls.unlink(missing_ok=True)
        for name in recorded:
            (folder / name).write_text(RECORD)
            (folder / name).chmod(0o755)
        path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        environment = {"PATH": path, "CALLS": str(calls), "HOME": str(tmp_path)} | variables
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
        lines = calls.read_text().splitlines() if calls.exists() else []
        return done, [line.split("\t") for line in lines]

    return call


def test_gpu_check_takes_wheels_from_a_folder_alone(call, tmp_path):
    (tmp_path / "wheels").mkdir()
    wheels = [tmp_path / "wheels" / f"{name}.whl" for name in "ab"]
    for wheel in wheels:
        wheel.touch()
    command = ["launch/gpu_check", "--tiny", f"--wheels={tmp_path / 'wheels'}", "--out=a b"]
    done, calls = call(command, ["mine"], PYTHON=str(tmp_path / "bin" / "mine"))
    assert done.returncode == 0, done.stderr
    install, check = calls
    assert install[:4] == ["mine", "-m", "pip", "install"]
    assert install[-2:] == list(map(str, wheels))
    assert {"--no-index", "--no-deps"} <= set(install)
    assert check == ["mine", "-m", "lfbm_jax.gpu_check", "--tiny", "--out=a b"]


def test_tpu_vm_runs_the_flags_as_given_on_all_hosts(call):
    done, calls = call(["launch/tpu_vm", "run", *FLAGS], ["gcloud"], NAME="mine", ZONE="here")
    assert done.returncode == 0, done.stderr
    (words,) = calls
    assert words[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "mine"]
    assert {"--worker=all", "--zone=here"} <= set(words)
    (remote,) = (word for word in words if word.startswith("--command="))
    program = shlex.split(remote.removeprefix("--command=").partition("&&")[2])
    assert program[1:] == ["-m", "lfbm_jax.main", "--coordinator=auto", *FLAGS]


@pytest.mark.parametrize("verb", ("create", "setup", "fetch", "delete"))
def test_tpu_vm_dry_run_prints_what_would_be_called(verb, call):
    done, calls = call(["launch/tpu_vm", "--dry-run", verb], ["gcloud", "git"], SPOT="1")
    assert (done.returncode, calls) == (0, [])
    printed = [shlex.split(line) for line in done.stdout.splitlines()]
    really, calls = call(["launch/tpu_vm", verb], ["gcloud", "git"], SPOT="1")
    assert really.returncode == 0
    assert [["git" if w.endswith("/git") else w for w in words] for words in printed] == calls
    assert ("--spot" in printed[-1]) == (verb == "create")


def test_tpu_vm_explains_itself(call):
    done, calls = call(["launch/tpu_vm", "crate"], ["gcloud"])
    assert done.returncode == 2 and calls == []
    assert "launch/tpu_vm [--dry-run] create" in done.stdout


@pytest.mark.parametrize(("tasks", "coordinator"), (("1", []), ("8", ["--coordinator=auto"])))
def test_slurm_joins_several_processes(tasks, coordinator, call):
    command = ["bash", "launch/slurm.sbatch", *FLAGS]
    done, calls = call(command, ["srun", "scontrol"], SLURM_NTASKS=tasks)
    assert done.returncode == 0, done.stderr
    main = ["srun", ".venv/bin/python", "-m", "lfbm_jax.main"]
    assert calls == [[*main, *coordinator, *FLAGS]]


def test_slurm_requeues_a_run_that_was_told_to_save(call):
    for status, requeued in (("143", [["scontrol", "requeue", "7"]]), ("1", [])):
        command = ["bash", "launch/slurm.sbatch", *FLAGS]
        done, calls = call(command, ["srun", "scontrol"], STATUS=status, SLURM_JOB_ID="7")
        assert calls[1:] == requeued
        assert done.returncode == int(status)


def test_slurm_array_takes_its_line_of_a_sweep(call, tmp_path):
    commands = tmp_path / "sweep.txt"
    commands.write_text("train --seed=0\n" + shlex.join(["train", *FLAGS]) + "\n")
    command = ["bash", "launch/slurm.sbatch", str(commands)]
    _, calls = call(command, ["srun"], SLURM_ARRAY_TASK_ID="2")
    assert calls[0][:3] == ["srun", "bash", "-c"]
    assert shlex.split(calls[0][3]) == ["exec", "train", *FLAGS]


@pytest.mark.parametrize("nodes", (1, 2))
def test_skypilot_passes_its_nodes_on(nodes, call, repo, tmp_path):
    task = yaml.safe_load((repo / "launch" / "skypilot.yaml").read_text())
    assert task["resources"]["use_spot"] and task["resources"]["job_recovery"]
    (tmp_path / ".venv").symlink_to(tmp_path)  # .venv/bin/python is a recorder too
    done, calls = call(
        ["bash", "-c", task["run"]],
        ["python"],
        cwd=tmp_path,
        NAME="svhn",
        FLAGS="--config=configs/svhn.py --seed=1",
        SKYPILOT_NUM_NODES=str(nodes),
        SKYPILOT_NODE_RANK="1",
        SKYPILOT_NODE_IPS="10.0.0.1\n10.0.0.2",
    )
    assert done.returncode == 0, done.stderr
    expected = ["-m", "lfbm_jax.main", "--config=configs/svhn.py", "--seed=1"]
    expected.append("--workdir=/runs/svhn")
    together = ["--coordinator=10.0.0.1:8476", "--num_processes=2", "--process_id=1"]
    assert calls == [["python", *expected, *(together if nodes > 1 else [])]]


def test_kubernetes_names_its_own_pods(repo):
    jobset = yaml.safe_load((repo / "launch" / "kubernetes.yaml").read_text())
    (job,) = jobset["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in container["args"])
    name = jobset["metadata"]["name"]
    port = container["ports"][0]["containerPort"]
    assert flags["coordinator"] == f"{name}-{job['name']}-0-0.{name}:{port}"
    assert int(flags["num_processes"]) == spec["parallelism"] == spec["completions"]
    assert flags["process_id"] == "$(PROCESS_ID)"
    assert "PROCESS_ID" in {variable["name"] for variable in container["env"]}
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in spec["template"]["spec"]["volumes"]}


def test_dockerfile_copies_what_is_there_and_not_ignored(repo):
    lines = (repo / "launch" / "Dockerfile").read_text().splitlines()
    allowed = (repo / "launch" / "Dockerfile.dockerignore").read_text().split()
    copied = [name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]]
    assert "lfbm_jax" in copied
    for name in copied:
        assert (repo / name).exists()
        assert f"!{name}" in allowed
    entry = next(line for line in lines if line.startswith("ENTRYPOINT"))
    assert json.loads(entry.removeprefix("ENTRYPOINT ")) == ["python", "-m", "lfbm_jax.main"]
