"""Compiles the kernels of `kan/kernels/csrc` into a shared library when the package is built; `pyproject.toml` says everything else.

The library is no extension module: it knows nothing of Python, and `kan/kernels/library.py` loads it by ctypes. One library serves every
version of Python and of torch, and so a wheel with it is tagged `py3-none-PLATFORM`. Where there is no compiler, or it fails, the package
is built without the library, works without it, and its wheel is tagged `py3-none-any`.

Environment variables: CC names the compiler; CFLAGS and LDFLAGS are appended to the options below; KAN_BUILD_KERNELS=0 leaves the library
as it is.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
SOURCES = Path("kan", "kernels", "csrc")
"""Folder of the C sources, below this one."""
COMPILERS = ["clang"] if sys.platform == "win32" else ["cc", "gcc", "clang"]
"""Compilers that are looked for where CC names none. Microsoft's compiler does not vectorise these loops, and lacks the GNU options."""
OPTIONS = [
    "-std=c99", "-O2", "-ftree-vectorize", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math",
    "-ffp-contract=fast", "-fvisibility=hidden",
]  # fmt: skip
"""Options of every compilation. Sums may be reordered, so that they use vectors; NaN and infinity keep their meaning."""
OPTIONS_OF_GCC = ["-fvect-cost-model=dynamic"]
"""GCC vectorises loops at -O2 only if nothing else is left of them; with this option, it decides by their cost. GCC 12 makes code of
140 KB for AVX-512, which takes 0.5 to 0.95 of the time of the 385 KB that it makes at -O3, where it unrolls too early."""
POSITION_INDEPENDENT = [] if sys.platform == "win32" else ["-fPIC"]
"""What code in a shared library needs."""
STRIPPED = ["-s"] if sys.platform.startswith("linux") else []
"""Leaves the names of internal functions out of the library."""


class InstructionSet(NamedTuple):
    """An instruction set that the kernels are compiled for: its name in the names of the exported functions, and its options."""

    name: str
    options: Sequence[str] = ()


BASE = InstructionSet("base")
X86_SETS = [
    BASE,
    InstructionSet("avx2", ["-mavx2", "-mfma"]),
    InstructionSet("avx512", [
        "-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mavx512cd", "-mavx2", "-mfma", "-mprefer-vector-width=512",
    ]),
]  # fmt: skip
"""Instruction sets for x86-64, among which `dispatch.c` chooses when the library is loaded. Other processors have one alone."""


def compiler() -> list[str]:
    """The command that calls the C compiler.

    Raises:
        FileNotFoundError: if CC names none, and none of the usual ones is installed.
    """
    named = shlex.split(os.environ.get("CC", ""))
    found = named or [path for path in map(shutil.which, COMPILERS) if path][:1]
    if not found:
        raise FileNotFoundError(f"no C compiler was found (tried: {', '.join(COMPILERS)}; CC names another)")
    return found + shlex.split(os.environ.get("ARCHFLAGS", ""))


def call(command: Sequence[str]) -> str:
    """Run a command and return what it printed.

    Raises:
        OSError: if it cannot be run, or fails.
    """
    process = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if process.returncode:
        complaint = (process.stderr or process.stdout).strip().splitlines()[:5]
        raise OSError("\n".join([f"`{shlex.join(command)}` failed with exit status {process.returncode}", *complaint]))
    return process.stdout


def source_files() -> list[str]:
    """The C sources and headers, as paths from this folder."""
    return sorted((SOURCES / path.name).as_posix() for path in (HERE / SOURCES).glob("*.[ch]"))


def fingerprint() -> str:
    """A short hash of the sources, by which a library in a checkout is known to be made of the sources that lie there."""
    return hashlib.sha256(b"".join((HERE / path).read_bytes() for path in source_files())).hexdigest()[:16]


def build_library(target: Path, objects: Path, options: Sequence[str] = (), only: InstructionSet | None = None) -> None:
    """Compile and link the shared library.

    Args:
        target: the file to write.
        objects: folder for the object files.
        options: more options for compiler and linker.
        only: the one instruction set to compile for; None for all that the processor knows of.

    Raises:
        OSError: if there is no compiler, or it fails.
    """
    command = compiler()
    macros = call([*command, "-dM", "-E", "-x", "c", os.devnull])  # those that the compiler defines by itself
    sets = [only] if only else X86_SETS if "__x86_64__" in macros else [BASE]
    of_compiler = [*OPTIONS, *POSITION_INDEPENDENT, *([] if "__clang__" in macros else OPTIONS_OF_GCC)]
    appended = [*options, *shlex.split(os.environ.get("CFLAGS", ""))]
    objects.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)

    def compiled(source: str, name: str, *own: str) -> str:
        made = str(objects / f"{name}.o")
        call([*command, *of_compiler, *own, *appended, "-c", str(HERE / SOURCES / source), "-o", made])
        return made

    about = [f"-DKAN_SETS={len(sets)}", f'-DKAN_SOURCES="{fingerprint()}"']
    if sys.platform == "win32" and len(sets) > 1:
        about.append("-mxsave")  # for the question which registers the system saves
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(compiled, "kernels.c", one.name, f"-DKAN_SET={one.name}", *one.options) for one in sets]
        jobs.append(pool.submit(compiled, "dispatch.c", "dispatch", *about))
        made = [job.result() for job in jobs]
    mathematics = [] if sys.platform == "win32" else ["-lm"]
    linked = ["-shared", *STRIPPED, *options, *made, "-o", str(target), *mathematics, *shlex.split(os.environ.get("LDFLAGS", ""))]
    call([*command, *linked])


class BuildKernels(build_ext):
    """Builds the shared library in place of an extension module, and goes on without it where that fails."""

    def get_ext_filename(self, fullname: str) -> str:
        ending = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
        return os.path.join(*fullname.split(".")) + ending

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name))
        target.unlink(missing_ok=True)  # one of a former build must not stand in for this one
        if os.environ.get("KAN_BUILD_KERNELS") == "0":
            return
        try:
            build_library(target, Path(self.build_temp))
        except OSError as error:
            self.warn(
                "the package is built without its compiled kernels. It works without them, and takes longer; `kan.show_versions()` says "
                f"whether they are there. The reason: {error}."
            )

    def copy_extensions_to_source(self) -> None:
        if os.environ.get("KAN_BUILD_KERNELS") != "0":
            for ext in self.extensions:  # a library that processes have loaded must not be written over
                Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
            super().copy_extensions_to_source()


class PlatformWheel(bdist_wheel):
    """Tags a wheel for its platform if the shared library is in it, and never for a version of Python."""

    def run(self) -> None:
        self.run_command("build")
        self.skip_build = True
        if not any(map(os.path.exists, self.get_finalized_command("build_ext").get_outputs())):
            self.distribution.ext_modules = []
            self.root_is_pure = True
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", "any" if self.root_is_pure else super().get_tag()[2])


if __name__ == "__main__":
    files = source_files()
    library = Extension(
        "kan.kernels._kernels",
        sources=[path for path in files if path.endswith(".c")],
        depends=[path for path in files if path.endswith(".h")],
        optional=True,
    )
    setup(ext_modules=[library], cmdclass={"build_ext": BuildKernels, "bdist_wheel": PlatformWheel})
