"""The address and undefined-behaviour sanitizers find nothing in the compiled kernels; `make sanitize` runs more tests under them."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import torch, kan
from kan.kernels.library import available
assert available() == "yes (base)", available()
generator = torch.Generator().manual_seed(0)
for dtype in (torch.float64, torch.float32):
    for width, k, rows in [([2, 5, 1], 3, 300), ([3, [2, 1], [1, 1], 2], 2, 7), ([1, 9, 17, 1], 1, 1), ([2, 3, 1], 5, 129)]:
        x = torch.rand(rows, width[0], generator=generator).to(dtype) * 4 - 2
        y = x[:, :1].repeat(1, 2 if width[-1] == 2 else 1)
        model = kan.KAN(width, grid=4, k=k, seed=0, auto_save=False).to(dtype)
        for opt, batch in [("LBFGS", -1), ("LM", -1), ("Adam", 5)]:
            model.fit((x, y), opt=opt, steps=2, lamb=1e-3, lamb_coef=0.1, lamb_coefdiff=0.1, batch=batch, progress=False)
    for sizes in [(3, 7), (20, 40)]:
        layer = kan.KANLinear(*sizes).to(dtype)
        x = torch.rand(40, sizes[0], generator=generator).to(dtype).mul(6).sub(3).requires_grad_()
        layer(x).square().sum().backward()
print("finished")
"""


def is_gcc() -> bool:
    compiler = shutil.which("cc")
    return compiler is not None and "Free Software Foundation" in subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout


@pytest.mark.skipif(not sys.platform.startswith("linux") or not is_gcc(), reason="needs GCC on Linux")
def test_training_reads_and_writes_within_bounds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status = runpy.run_path(str(ROOT / "scripts" / "sanitize.py"))["run_sanitized"](["-c", PROGRAM], tmp_path, ["-O0"])
    printed = capfd.readouterr()
    assert status == 0 and printed.out.endswith("finished\n"), printed.err
