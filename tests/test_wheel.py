"""The package as others get it: a wheel, built from a copy of the sources and used outside of the repository."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

USE_IT = """
import importlib.metadata, os, sys
from pathlib import Path
import kan, torch
home = Path(kan.__file__).resolve()
assert home.is_relative_to(Path(sys.prefix).resolve()), home
assert (home.parent / "py.typed").is_file()
assert kan.__version__ == importlib.metadata.version("kanonical"), kan.__version__

from kan.utils import create_dataset
model = kan.KAN(width=[2, 2, 1], grid=3, k=3, seed=0, auto_save=False)
dataset = create_dataset(lambda x: x[:, [0]] * x[:, [1]], n_var=2, train_num=50, test_num=50)
result = model.fit(dataset, opt="LBFGS", steps=2)
assert len(result["train_loss"]) == 2
assert os.listdir() == [], os.listdir()
print("trained with", kan.__version__)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command outside of the repository and return what it printed."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    process = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy, since a build leaves its own folders beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "sources"
    shutil.copytree(ROOT / "kan", copy / "kan", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, copy, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"kan", f"{wheel.name.rsplit('-', 3)[0]}.dist-info"}
    sources = {p.relative_to(ROOT).as_posix() for p in (ROOT / "kan").rglob("*.py")}
    assert sources | {"kan/py.typed"} == {name for name in names if name.startswith("kan/")}
    assert any(name.endswith("/LICENSE") for name in names)


def test_the_wheel_works_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    home, empty = tmp_path / "clean", tmp_path / "empty"
    empty.mkdir()
    venv.create(home, with_pip=False, symlinks=os.name != "nt")
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=empty).strip())
    run(
        *(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--disable-pip-version-check"),
        *("--target", site, wheel),
        cwd=empty,
    )
    # The dependencies are those of the running environment, so that nothing is downloaded. They come after the
    # wheel on the path, and a .pth file is not followed further: an editable install stays out of reach.
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "dependencies.pth").write_text("\n".join(sorted(installed)) + "\n")

    assert "trained with" in run(python, "-c", USE_IT, cwd=empty)
