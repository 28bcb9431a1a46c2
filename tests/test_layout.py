"""Tests mirror the package: what tests `kan/bases/rbf.py` is `tests/bases/test_rbf.py`. This file checks it in both directions."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LEAST_LINES = 60
"""Number of lines from which on a file of the package needs a test file of its own, or an entry in `TESTED_IN`."""

ACROSS = {
    # The repository: documentation, packaging, layout
    "test_architecture.py", "test_differences.py", "test_docs.py", "test_forge.py", "test_import_cost.py", "test_layout.py",
    "test_names.py", "test_notebooks.py", "test_public.py", "test_tables.py", "test_wheel.py", "benchmarks/test_scoring.py",
    # The whole library: users' stories, pykan's numbers, habits of torch and Python
    "test_autocast.py", "test_cuda.py", "test_distributed.py", "test_golden_pykan.py", "test_own_code.py", "test_plain_objects.py",
    "test_other_bases.py", "test_set_attributes.py", "test_stories.py", "test_torch_habits.py", "test_written_tables.py",
    # A room: laws that hold for every entry of a registry, and what several of its files promise together
    "bases/test_laws.py", "checkpoint/test_durability.py", "checkpoint/test_hostile.py", "checkpoint/test_pykan_files.py",
    "discovery/test_thresholds.py", "kernels/test_sanitizers.py", "symbolic/test_storeys.py",
    "drop_in/test_kan_linear_reference.py", "layers/test_recorded.py", "network/test_input.py", "network/test_self_built.py",
    "surgery/test_pruning_loss.py", "training/methods/test_short_steps.py", "training/test_gallery.py", "training/test_grid_updates.py",
}  # fmt: skip
"""Test files that mirror no single file of the package."""

TESTED_IN = {
    "bases/base": "bases/test_laws.py",
    "checkpoint/versioned": "checkpoint/test_store.py",
    "compiler": "discovery/formulas/test_compiler.py",
    **dict.fromkeys(["datasets/ai_feynman", "datasets/rulekan"], "datasets/test_problem_sets.py"),
    **{f"discovery/curves/{name}": "discovery/curves/test_one_variable.py" for name in ("candidates", "pair_starts", "pairs", "rational")},
    **{f"discovery/laws/{name}": "discovery/laws/test_search.py" for name in ("curve_steps", "search_state", "trained_networks")},
    "discovery/laws/network_shapes": "discovery/laws/test_network_law.py",
    **{f"layers/{name}": "layers/test_kan_layer.py" for name in ("computed", "deviation", "edge_functions", "features", "prepared_grid")},
    **{f"network/{name}": "network/test_network.py" for name in ("autograd_pass", "layered", "state_dict")},
    **{f"kernels/{name}": "training/objectives/test_compiled.py" for name in ("lbfgs", "network")},
    "layers/edge_values": "kernels/test_layer.py",
    "network/bases": "test_other_bases.py",
    "network/layer_pass": "training/objectives/test_of_network.py",
    "network/fit_loss": "surgery/test_pruning_loss.py",
    **dict.fromkeys(["network/perceptron", "surgery/perceptron", "training/objectives/of_perceptron"], "test_mlp.py"),
    **{f"network/user_code/{name}": "test_own_code.py" for name in ("inheritance", "observed", "own_code")},
    **{f"network/user_code/{name}": "test_set_attributes.py" for name in ("attributes", "recorded_trace")},
    **{f"plotting/{name}": "plotting/test_network.py" for name in ("drawing", "labels")},
    "symbolic/search": "symbolic/test_affine_fit.py",
    "training/data/samples": "training/data/test_dataset.py",
    **{f"training/{name}": "training/test_fit.py" for name in ("evaluation/measure", "loop", "objectives/of_prediction", "one_network")},
    "training/prepare": "training/test_options.py",
    **{f"training/least_squares/{name}": "training/least_squares/test_network_problem.py" for name in ("penalty_curvature",
    "residual_side")}, **{f"training/models/{name}": "training/models/test_kinds.py" for name in ("of_network", "trainable")},
    "training/methods/by_name": "training/methods/test_stepper.py",
    **{f"training/objectives/{name}": "training/objectives/test_of_network.py" for name in ("back_end", "base", "closed_form", "make",
    "penalty", "training_loss")},
    "training/resume": "training/methods/test_stepper.py",
    **{f"training/together/{name}": "training/test_restarts.py" for name in ("fit_stack", "lm", "method", "methods", "stack_pass")},
}
"""Files of the package without a test file of their own, and the test file in which they are tested. Shorten this list where you can."""


def files_of_the_package() -> dict[str, int]:
    """Path below `kan/` without its ending, and number of lines."""
    return {
        path.relative_to(ROOT / "kan").with_suffix("").as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / "kan").rglob("*.py")
        if path.name != "__init__.py"
    }


def files_of_the_tests() -> list[str]:
    """Paths of all test files, below `tests/`."""
    return sorted(path.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("test_*.py"))


def mirrored(test_file: str) -> str:
    """The file of the package that a test file is for, in lower case: pykan's import paths have capitals."""
    path = Path(test_file)
    return (path.parent / path.stem.removeprefix("test_")).as_posix().lower()


def test_every_test_file_mirrors_a_file_of_the_package() -> None:
    known = {name.lower() for name in files_of_the_package()}
    strangers = [path for path in files_of_the_tests() if mirrored(path) not in known and path not in ACROSS]
    assert not strangers, f"rename these to the file that they test, or list them in ACROSS: {strangers}"


def test_every_file_of_some_size_has_a_test_file() -> None:
    tested = {mirrored(path) for path in files_of_the_tests()}
    large = [name for name, lines in files_of_the_package().items() if lines >= LEAST_LINES]
    untested = [name for name in large if name.lower() not in tested and name not in TESTED_IN]
    assert not untested, f"write tests/<folder>/test_<name>.py for these, or say in TESTED_IN where they are tested: {untested}"


def test_the_lists_name_what_is_there_and_is_needed() -> None:
    files, tests = files_of_the_package(), files_of_the_tests()
    known, tested = {name.lower() for name in files}, {mirrored(path) for path in tests}
    assert [path for path in ACROSS if path not in tests or mirrored(path) in known] == []
    assert [name for name in TESTED_IN if name not in files or name.lower() in tested or files[name] < LEAST_LINES] == []
    assert set(TESTED_IN.values()) <= set(tests)


@cache
def functions_of(path: str) -> set[str]:
    """Names of the test functions of a file below `tests/`."""
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


SLOW = (ROOT / "tests" / "slow.txt").read_text(encoding="utf-8").split()


@pytest.mark.parametrize("name", SLOW)
def test_what_is_listed_as_slow_is_there(name: str) -> None:
    path, function = name.split("::")
    assert (ROOT / "tests" / path).is_file() and function in functions_of(path)
