"""The versions that results depend on, for bug reports."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from kan._version import __version__
from kan.kernels.library import available

__all__ = ["show_versions"]

PACKAGES = ["torch", "numpy", "sympy", "scipy", "scikit-learn", "matplotlib"]
"""Packages that the library computes and draws with."""


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def show_versions() -> None:
    """Print the versions of the library and of the packages that it computes with, the number of threads, and the state of the kernels.

    The last line says whether the compiled kernels of `kan.kernels` are in use, and the instruction set that they were compiled for, or why
    they are not. Put the output into a bug report.

    >>> show_versions()
    kan             ...
    compiled kernels  ...
    """
    lines = {
        "kan": __version__,
        "Python": f"{platform.python_version()} ({platform.system()} {platform.machine()})",
        **{package: _installed(package) for package in PACKAGES},
        "threads": f"{torch.get_num_threads()} (torch.get_num_threads())",
        "compiled kernels": available(),
    }
    width = max(map(len, lines)) + 2
    print("\n".join(f"{name:{width}}{value}" for name, value in lines.items()))
