"""What a bug report needs is printed where it is asked for, and only there."""

import importlib.metadata
import subprocess
import sys

import pytest
import torch

import kan
from kan.kernels.library import available, switched
from kan.versions import PACKAGES


def lines(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The printed names and values."""
    kan.show_versions()
    width = len("compiled kernels  ")
    return {line[:width].strip(): line[width:] for line in capsys.readouterr().out.splitlines()}


def test_versions_threads_and_kernels_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    shown = lines(capsys)
    assert shown["kan"] == kan.__version__
    assert shown["Python"].startswith("{}.{}.{}".format(*sys.version_info))
    assert shown["threads"].startswith(str(torch.get_num_threads()))
    assert shown["compiled kernels"] == available()
    assert {name: shown[name] for name in PACKAGES} == {name: importlib.metadata.version(name) for name in PACKAGES}


def test_what_is_not_installed_and_not_used_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kan.versions.PACKAGES", ["no-such-package"])
    with switched(False):
        shown = lines(capsys)
    assert shown["no-such-package"] == "not installed"
    assert shown["compiled kernels"].split()[0] in ("no", "switched")


def test_an_import_without_the_library_is_silent() -> None:
    source = "import kan.kernels.library as l; l.FILE_NAME = 'missing'; import kan; kan.KAN([2, 1], auto_save=False)"
    process = subprocess.run([sys.executable, "-W", "error", "-c", source], capture_output=True, text=True, timeout=300)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
