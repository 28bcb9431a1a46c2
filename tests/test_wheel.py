"""The package as others get it: a wheel, built from a copy of the sources and used outside of the repository."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from kan.kernels.library import FILE_NAME

ROOT = Path(__file__).resolve().parent.parent
SETUP = runpy.run_path(str(ROOT / "setup.py"))

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
kan.show_versions()
print("trained with", kan.__version__)
"""


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Run a command outside of the repository, with more environment variables, and return what it printed."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "KAN_KERNELS")}
    process = subprocess.run(command, cwd=cwd, env=environment | variables, capture_output=True, text=True, timeout=600)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout + process.stderr


NO_COMPILER = "no-such-compiler"


def build(folder: Path, compiler: str | None, *what: str) -> tuple[Path, str]:
    """A wheel, and what was printed when it was built.

    It is built from a copy of the sources, since a build leaves its own folders beside them, and not optimised, which takes longer.
    """
    copy = folder / "sources"
    shutil.copytree(ROOT / "kan", copy / "kan", ignore=shutil.ignore_patterns("__pycache__", "_kernels.*"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "build", *what, "--no-isolation", "--outdir", folder, copy]
    printed = run(*command, cwd=folder, CFLAGS="-O0", **({"CC": compiler} if compiler else {}))
    (built,) = folder.glob("*.whl")
    return built, printed


def has_compiler() -> bool:
    try:
        SETUP["call"]([*SETUP["compiler"](), "--version"])
    except OSError:
        return False
    return True


needs_compiler = pytest.mark.skipif(not has_compiler(), reason="there is no C compiler")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel with the compiled kernels, built from a source distribution."""
    return build(tmp_path_factory.mktemp("compiled"), None)[0]


@pytest.fixture(scope="module")
def pure(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A wheel built where there is no compiler, and what was printed."""
    return build(tmp_path_factory.mktemp("pure"), NO_COMPILER, "--wheel")


def contents(wheel: Path) -> set[str]:
    """Names of the files of the package; the wheel has nothing else but its description."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"kan", f"{wheel.name.rsplit('-', 3)[0]}.dist-info"}
    assert any(name.endswith("/LICENSE") for name in names)
    return {name for name in names if name.startswith("kan/")}


def tags(wheel: Path) -> tuple[str, bool]:
    """The tag in a wheel's description, which its name repeats, and whether it is for every platform."""
    (name,) = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".dist-info/WHEEL")]
    text = zipfile.ZipFile(wheel).read(name).decode()
    (tag,) = re.findall(r"^Tag: (.*)$", text, re.MULTILINE)
    assert wheel.stem.endswith(f"-{tag}")
    return tag, "Root-Is-Purelib: true" in text


SOURCES = {path.relative_to(ROOT).as_posix() for path in (ROOT / "kan").rglob("*.py")} | {"kan/py.typed"}


@needs_compiler
def test_a_wheel_with_kernels_serves_every_python_on_its_platform(compiled: Path) -> None:
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    tag, pure = tags(compiled)
    assert tag.startswith("py3-none-") and not pure
    assert tag.endswith(platform) or sys.platform == "darwin"
    assert contents(compiled) == SOURCES | {f"kan/kernels/{FILE_NAME}"}


def test_a_wheel_without_kernels_serves_every_platform_and_the_log_says_why(pure: tuple[Path, str]) -> None:
    wheel, printed = pure
    assert tags(wheel) == ("py3-none-any", True)
    assert contents(wheel) == SOURCES
    assert "built without its compiled kernels. It works without them" in printed and NO_COMPILER in printed


@needs_compiler
def test_a_source_distribution_holds_the_c_sources(compiled: Path) -> None:
    (archive,) = compiled.parent.glob("*.tar.gz")
    names = {name.split("/", 1)[-1] for name in tarfile.open(archive).getnames()}
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "kan").rglob("csrc/*.[ch]")} | {"setup.py"} <= names


def test_the_compiler_is_named_or_one_of_the_usual_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARCHFLAGS", raising=False)
    monkeypatch.setenv("CC", "ccache 'my gcc'")
    assert SETUP["compiler"]() == ["ccache", "my gcc"]
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="no C compiler was found .tried: .*; CC names another"):
        SETUP["compiler"]()


@pytest.mark.parametrize("kernels", [pytest.param("yes", marks=needs_compiler), "no"])
def test_the_wheel_works_in_a_clean_environment(kernels: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    wheel = request.getfixturevalue("compiled") if kernels == "yes" else request.getfixturevalue("pure")[0]
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

    assert re.search(rf"compiled kernels +{kernels} .*trained with", run(python, "-c", USE_IT, cwd=empty), re.DOTALL)
