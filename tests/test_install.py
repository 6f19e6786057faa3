"""The package as users install it: a wheel, and an editable installation, outside a clone.

Nothing is downloaded: a new environment sees this one's packages through a .pth file. Running needs
them, so it is tested with this Python only (launch/test with PYTHON=python3.13 tests that one); the
other supported Pythons that are found compile every file of the wheel.
"""

import os
import shutil
import site
import subprocess
import sys
import zipfile

import pytest

from tests.builders import CONFIGS

pytestmark = pytest.mark.slow
PACKED = ("lfbm_jax", "configs", "setup.py", "pyproject.toml", "README.md", "LICENSE")
QUIET = ("--disable-pip-version-check", "--no-deps", "--no-index", "--no-build-isolation")


def call(*command, cwd, status=0):
    """What a command printed to both streams; nothing of this clone is on its Python's path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = list(map(str, command))
    done = subprocess.run(words, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    assert done.returncode == status, f"{words}\n{done.stdout[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory, repo):
    """A copy of what is packed, so that building leaves nothing in the clone."""
    folder = tmp_path_factory.mktemp("source")
    for name in PACKED:
        if (repo / name).is_dir():
            shutil.copytree(repo / name, folder / name,
                            ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
        else:
            shutil.copy(repo / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "pip", "wheel", *QUIET, "--wheel-dir", folder, source, cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module", params=["wheel", "editable"])
def environment(request, tmp_path_factory):
    """The folder of commands of a new environment with the package, and its kind."""
    folder = tmp_path_factory.mktemp(request.param) / "venv"
    call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "these_packages.pth").write_text("\n".join(site.getsitepackages()))
    what = [request.getfixturevalue("wheel")]
    if request.param == "editable":
        what = ["--editable", request.getfixturevalue("source")]
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install")
    call(*pip, *QUIET, "--ignore-installed", *what, cwd=folder)
    return folder / "bin", request.param


def test_the_wheel_holds_package_and_experiments_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name.endswith("-py3-none-any.whl")
    assert {name.split("/")[0].split("-")[0] for name in names} == {"lfbm_jax"}
    experiments = {f"lfbm_jax/_configs/{name}.py" for name in CONFIGS}
    assert {n for n in names if n.startswith("lfbm_jax/_configs/")} == experiments
    assert "lfbm_jax/py.typed" in names


def test_the_command_trains_outside_a_clone(environment, tmp_path):
    """The command resumes too, and Python loads what it made."""
    commands, kind = environment
    for _ in range(2):
        printed = call(commands / "lfbm-train", "--config=digits:smoke", cwd=tmp_path)
        assert "done; look at" in printed and "runs/digits-smoke/reports" in printed
    program = """
import pathlib, lfbm_jax
print(pathlib.Path(lfbm_jax.__file__).parent)
print(lfbm_jax.load("runs/digits-smoke").sample(2).images.shape)
"""
    place, shape = call(commands / "python", "-c", program, cwd=tmp_path).splitlines()[-2:]
    assert place.startswith(str(commands.parent)) == (kind == "wheel")
    assert shape == "(2, 8, 8, 1)"


def test_the_command_knows_every_experiment(environment, tmp_path):
    commands, _ = environment
    program = f"""
from lfbm_jax.runs import build, config_files
for name in {CONFIGS}:
    build.model(config_files.get_config(name + ":smoke"))
print(*config_files.names())
"""
    assert call(commands / "python", "-c", program, cwd=tmp_path).split()[-len(CONFIGS):] == CONFIGS
    printed = call(commands / "lfbm-train", "--config=svnh", cwd=tmp_path, status=2)
    assert printed.splitlines()[-1].startswith("error: config 'svnh': did you mean 'svhn'?")


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_every_supported_python_compiles_the_wheel(version, wheel, tmp_path):
    python = shutil.which(f"python{version}")
    works = python and subprocess.run([python, "-c", ""], capture_output=True).returncode == 0
    if not works:
        pytest.skip(f"no Python {version} on this machine")
    zipfile.ZipFile(wheel).extractall(tmp_path)
    call(python, "-W", "error", "-m", "compileall", "-q", tmp_path, cwd=tmp_path)
