r"""Solution of linear systems with banded matrices, in memory that grows with the size of the band.

A matrix ``M`` of shape ``(n, n)`` has bandwidth ``k`` if ``M_rc = 0`` for ``|r - c| > k``. It is stored by its diagonals, as
``band[r, c - r + k] = M_rc`` of shape ``(n, 2k + 1)``. The rows are divided into blocks of ``s >= k`` rows, so that only neighbouring
blocks are coupled, and the blocks are eliminated one after another (block LU). Rows are exchanged only within blocks. This is sufficient
for the matrices here: those of B-splines at sites that satisfy the Schoenberg-Whitney conditions are totally positive, and Gram matrices
are positive definite.

References
    C. de Boor, A. Pinkus, "Backward error analysis for totally positive linear systems", 1977, doi:10.1007/BF01398697.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["solve_banded"]

BLOCK = 64
"""Largest size of a system that is solved as one block. The blocks of larger systems have half as many rows, or as many as the bandwidth if
that is more. With torch 2.13 and MKL, a batch of larger blocks can hang forever once the number of threads has been changed, as `fit` does.
After ``set_num_threads(1)`` and ``(2)``, two systems of size 203 hung; two of size 103 and a single one did not."""


def solve_banded(band: Tensor, target: Tensor) -> Tensor:
    """Solutions ``x`` of ``M x = target``, with one matrix per input.

    Args:
        band: the matrices by their diagonals, ``(I, n, 2k + 1)``; entries outside of a matrix are ignored.
        target: the right-hand sides, ``(I, n, O)``.

    Returns:
        The solutions, ``(I, n, O)``.

    >>> band = torch.tensor([[[0.0, 2.0, 1.0], [1.0, 2.0, 1.0], [1.0, 2.0, 0.0]]])
    >>> solve_banded(band, torch.tensor([[[3.0], [4.0], [3.0]]])).flatten()
    tensor([1., 1., 1.])
    """
    inputs, n, width = band.shape
    k = width // 2
    size = min(n, max(BLOCK // 2, k)) if n > BLOCK else n
    rows = torch.arange(size, device=band.device)
    place = (rows[:, None] + torch.arange(width, device=band.device)).expand(inputs, -1, -1)  # the column, counted from k before the block
    after, found = band.new_zeros(inputs, size, k), target[:, :0]
    eliminated: list[tuple[Tensor, Tensor]] = []
    for start in range(0, n, size):
        here = min(size, n - start)
        wide = band.new_zeros(inputs, here, size + 2 * k).scatter_(2, place[:, :here], band[:, start : start + here])
        before, square, right = wide[..., :k], wide[..., k : k + here].clone(), wide[..., k + here : k + here + k]
        known = target[:, start : start + here]
        if start:
            square[..., :k] -= (before @ after[:, size - k :])[..., :here]
            known = known - before @ found[:, size - k :]
        solved = torch.linalg.solve(square, torch.cat([right, known], 2))
        after, found = solved.split([k, target.shape[2]], 2)
        eliminated.append((after, found))
    solutions = [eliminated[-1][1]]
    for after, found in reversed(eliminated[:-1]):
        # The next block may have fewer than k rows.
        following = solutions[-1][:, :k]
        solutions.append(found - after[..., : following.shape[1]] @ following)
    return torch.cat(solutions[::-1], 1)
