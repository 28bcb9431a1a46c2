"""A KAN layer's forward and backward pass beside a plain linear layer, the dense formula, pykan and torchcurves, in one run on one machine.

``python benchmarks/layers.py`` prints a table for every workload, says which of our bars hold, and writes everything with the environment
to ``benchmarks/results/layers.json``. All layers have degree 3 and are float32.

Contenders
    ``ours, equidistant``
        `KANStack` as constructed.
    ``ours, adapted``
        the same after a grid update at the samples, so that no two intervals are equal.
    ``linear``
        The floor: for every KAN layer with ``p`` parameters and ``O`` outputs a bias-free ``nn.Linear`` with as many, from ``p / O``
        inputs. Such layers do not fit one behind the other; those of a stack run each on an input of its own, and every input but the
        first has a gradient, as the hidden values of the stack do.
    ``dense``
        all B-splines at all points with plain autograd, `tests/reference/dense.py`.
    ``KANLayer``
        this library's layer with pykan's interface, which returns every edge's values.
    ``pykan``
        its `KANLayer`, which does the same.
    ``torchcurves``
        its KAN layer: a `BSplineCurve` for every input, inputs clamped to the grid, and the sum over the inputs. It has no base function.

Procedure
    A repetition clears the gradients and is timed over forward pass, ``(y * c).sum()`` with a constant random ``c``, and backward pass. In
    every round each contender runs twice in a row, of which the second counts: it finds caches and allocator as a training loop would. The
    other libraries have environments and processes of their own and run in turn with the rounds, after a pause in which idle threads come
    to rest. Figures are medians, ratios are ratios of medians.

    Saved memory is what the forward pass keeps for the backward pass: every storage once, the input included where it is kept, without the
    layer's parameters and buffers; 1 MB is 10^6 bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from environments import HERE, PYKAN, ROOT, TORCHCURVES, Library, python_of, surroundings, write
from torch import Tensor, nn

DEGREE = 3
TURNS = 3
"""How often the rounds in this process and those in the others take turns."""
PAUSE = 0.05
"""Seconds until the idle threads of a process sleep."""


@dataclass(frozen=True)
class Workload:
    """Layers of the given sizes on a batch, and what ours should reach there: at most so many times another, or so many MB."""

    name: str
    batch: int
    sizes: list[int]
    intervals: int
    bars: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"B={self.batch}, {'->'.join(map(str, self.sizes))}, G={self.intervals}"

    @property
    def layers(self) -> list[tuple[int, int]]:
        """Inputs and outputs of every layer."""
        return list(zip(self.sizes[:-1], self.sizes[1:], strict=True))


WORKLOADS = [
    Workload("small", 1000, [2, 5, 1], 5, {"x dense": 0.25, "x linear": 1.8, "saved MB": 0.5}),
    Workload("digits", 128, [784, 64, 10], 5, {"x dense": 0.35, "x linear": 1.5, "saved MB": 4}),
    Workload("wide", 100, [1000, 1000, 1], 5, {"x dense": 0.6, "x linear": 1.2, "saved MB": 8}),
    Workload("square", 1024, [256, 256], 5, {"x dense": 0.5, "x linear": 1.2}),
    Workload("square, fine", 1024, [256, 256], 20, {"x dense": 0.35, "x linear": 0.65}),
    Workload("digits, fine", 200, [784, 10], 100, {"x dense": 0.02, "saved MB": 6}),
    Workload("growth 5", 1024, [64, 64], 5),
    Workload("growth 50", 1024, [64, 64], 50),
    Workload("growth 500", 1024, [64, 64], 500, {"x dense": 0.02}),
]
GROWTH = [("growth 500", "growth 5", 1.5), ("growth 500", "growth 50", 1.4)]
"""The time of the first workload is at most so many times that of the second."""


@dataclass
class Case:
    """A contender made for a workload.

    Attributes:
        module: owner of all parameters and buffers.
        inputs: the first is the workload's; the gradients of others are always found.
        forward: from the inputs to the outputs.
    """

    module: nn.Module
    inputs: list[Tensor]
    forward: Callable[[list[Tensor]], list[Tensor]]

    def __post_init__(self) -> None:
        self.module.to(self.inputs[0].device)
        with torch.no_grad():
            self.cotangents = [torch.randn_like(y) for y in self.forward(self.inputs)]
        for x in self.inputs[1:]:
            x.requires_grad_()

    def seconds(self) -> float:
        """One repetition."""
        for leaf in (*self.inputs, *self.module.parameters()):
            leaf.grad = None
        cuda = self.inputs[0].is_cuda
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        outputs = self.forward(self.inputs)
        torch.autograd.backward([(y * c).sum() for y, c in zip(outputs, self.cotangents, strict=True)])
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def saved_bytes(self) -> int:
        """What the forward pass keeps, see the module."""
        own = {t.untyped_storage().data_ptr() for t in (*self.module.parameters(), *self.module.buffers())}
        kept: list[Tensor] = []  # holding the tensors keeps their addresses from being given away again

        def keep(t: Tensor) -> Tensor:
            kept.append(t)
            return t

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            self.forward(self.inputs)
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
        return sum(size for address, size in storages.items() if address not in own)


def ours(workload: Workload, x: Tensor, *, adapted: bool) -> Case:
    from kan.drop_in.kan_linear import KANStack

    stack = KANStack(workload.sizes, workload.intervals, DEGREE, device=x.device)
    if adapted:
        with torch.no_grad():
            stack(x, update_grid=True)
    return Case(stack, [x], lambda inputs: [stack(inputs[0])])


def linear(workload: Workload, x: Tensor) -> Case:
    per_edge = workload.intervals + DEGREE + 2  # coefficients, base weight and scaler
    layers = nn.ModuleList(nn.Linear(n_in * per_edge, n_out, bias=False) for n_in, n_out in workload.layers)
    inputs = [torch.randn(len(x), n_in * per_edge, device=x.device) for n_in, _ in workload.layers]
    return Case(layers, inputs, lambda inputs: [layer(z) for layer, z in zip(layers, inputs, strict=True)])


def dense(workload: Workload, x: Tensor) -> Case:
    from tests.reference.dense import DenseKANStack

    stack = DenseKANStack(workload.sizes, workload.intervals, DEGREE)
    stack.load_state_dict(ours(workload, x, adapted=False).module.state_dict())
    return Case(stack, [x], lambda inputs: [stack(inputs[0])])


def kan_layer(workload: Workload, x: Tensor) -> Case:
    """`KANLayer` of the package that is called `kan` where this runs."""
    from kan.KANLayer import KANLayer

    return _chain([KANLayer(n_in, n_out, workload.intervals, DEGREE) for n_in, n_out in workload.layers], x, lambda layer, z: layer(z)[0])


def torchcurves(workload: Workload, x: Tensor) -> Case:
    import torchcurves as tc  # type: ignore[import-not-found]  # only in its own environment

    count = workload.intervals + DEGREE
    curves = [tc.BSplineCurve(n_in, n_out, DEGREE, count, input_map="real.clamp") for n_in, n_out in workload.layers]
    return _chain([nn.Sequential(curve, tc.Sum(dim=-2)) for curve in curves], x, lambda layer, z: layer(z))


def _chain(layers: Iterable[nn.Module], x: Tensor, call: Callable[[nn.Module, Tensor], Tensor]) -> Case:
    modules = nn.ModuleList(layers)

    def forward(inputs: list[Tensor]) -> list[Tensor]:
        z = inputs[0]
        for layer in modules:
            z = call(layer, z)
        return [z]

    return Case(modules, [x], forward)


Factory = Callable[[Workload, Tensor], Case]
CONTENDERS: dict[str, Factory] = {
    "ours, equidistant": lambda workload, x: ours(workload, x, adapted=False),
    "ours, adapted": lambda workload, x: ours(workload, x, adapted=True),
    "linear": linear,
    "dense": dense,
    "KANLayer": kan_layer,
}
"""What runs in this process."""
OURS = ["ours, equidistant", "ours, adapted"]
"""Those that the bars are for."""


class Contender(NamedTuple):
    """Another library, and how to make its layers."""

    library: Library
    make: Factory


LIBRARIES = {"pykan": Contender(PYKAN, kan_layer), "torchcurves": Contender(TORCHCURVES, torchcurves)}


def made(make: Factory, workload: Workload, device: str = "cpu") -> Case:
    """The contender with the same samples, uniform on ``[-1, 1]``, in every process."""
    torch.manual_seed(0)
    x = torch.rand(workload.batch, workload.sizes[0]) * 2 - 1
    return make(workload, x.to(device))


def rounds(cases: dict[str, Case], seconds: float, least: int) -> dict[str, list[float]]:
    """Rounds for so many seconds, and `least` at least."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    stop = time.perf_counter() + seconds
    while cases and (time.perf_counter() < stop or min(map(len, times.values())) < least):
        for name, case in cases.items():
            case.seconds()
            times[name].append(case.seconds())
    return times


class Server:
    """A library in its own environment and process, made for one workload.

    Attributes:
        failure: why there are no further answers.
    """

    def __init__(self, name: str, python: str, workload: Workload, threads: int, memory: float, limit: float) -> None:
        command = [python, str(Path(__file__).resolve()), "--serve", name, "--threads", str(threads), "--memory", str(memory)]
        self._folder = tempfile.TemporaryDirectory()
        self._errors = Path(self._folder.name, "errors")
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder.name,
                env={**os.environ, "PYTHONPATH": ""},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._limit = limit
        self.failure = ""
        self.ask(asdict(workload))

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer, which is empty after a failure."""
        if self.failure:
            return {}
        assert self._process.stdin is not None and self._process.stdout is not None
        watch = threading.Timer(self._limit, self._process.kill)
        watch.start()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        late = not watch.is_alive()
        watch.cancel()
        answer: dict[str, Any] = {}
        if line:
            answer = json.loads(line)
            self.failure = answer.pop("failure", "")
        elif late:
            self.failure = f"no answer within {self._limit:g} s"
        else:
            self.failure = f"the process ended: {(self._errors.read_text().splitlines() or ['without a word'])[-1]}"
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()


def serve(name: str, memory: float) -> None:
    """Answer the requests of a `Server` on the standard input and output."""
    answers, sys.stdout = sys.stdout, sys.stderr
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(memory * 2**30),) * 2)
    try:
        case = made(LIBRARIES[name].make, Workload(**json.loads(sys.stdin.readline())))
        print("{}", file=answers, flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            case.inputs[0].requires_grad_(request["input gradient"])
            times = rounds({name: case}, request["seconds"], least=1)[name]
            print(json.dumps({"times": times, "saved": case.saved_bytes()}), file=answers, flush=True)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        print(json.dumps({"failure": f"more than {memory:g} GiB of memory"}), file=answers, flush=True)


def measure(workload: Workload, pythons: dict[str, str], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All contenders on a workload, without and with the gradient of the input: a record each."""
    cases = {name: made(make, workload, arguments.device) for name, make in CONTENDERS.items()}
    servers = {
        name: Server(name, python, workload, arguments.threads, arguments.memory, arguments.limit) for name, python in pythons.items()
    }
    records = []
    for input_gradient in (False, True):
        for case in cases.values():
            case.inputs[0].requires_grad_(input_gradient)
        saved = {name: case.saved_bytes() for name, case in cases.items()}
        times: dict[str, list[float]] = {name: [] for name in (*cases, *servers)}
        for _ in range(TURNS):
            time.sleep(PAUSE)
            for name, found in rounds(cases, arguments.seconds / TURNS, least=2).items():
                times[name] += found
            for name, server in servers.items():
                time.sleep(PAUSE)
                answer = server.ask({"input gradient": input_gradient, "seconds": arguments.seconds / TURNS / len(cases)})
                if answer:
                    times[name] += answer["times"]
                    saved[name] = answer["saved"]
        stopped = {name: server.failure for name, server in servers.items() if server.failure}
        results = summary({name: found for name, found in times.items() if found}, saved)
        records.append({"workload": asdict(workload), "input gradient": input_gradient, "results": results, "stopped": stopped})
    for server in servers.values():
        server.close()
    return records


def summary(times: dict[str, list[float]], saved: dict[str, int]) -> dict[str, dict[str, Any]]:
    """The figures of every contender."""
    medians = {name: statistics.median(found) for name, found in times.items()}
    return {
        name: {
            "ms": 1e3 * medians[name],
            "ms, quartiles": [1e3 * float(torch.tensor(found).quantile(q)) for q in (0.25, 0.75)],
            "rounds": len(found),
            "x linear": medians[name] / medians["linear"],
            "x dense": medians[name] / medians["dense"],
            "saved MB": saved[name] / 1e6,
        }
        for name, found in times.items()
    }


def judged(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every bar with what was measured."""
    results = {(r["workload"]["name"], r["input gradient"]): r["results"] for r in records}
    found = []
    for record, contender in itertools.product(records, OURS):
        name, gradient = record["workload"]["name"], record["input gradient"]
        measured = [(quantity, record["results"][contender][quantity], bar) for quantity, bar in record["workload"]["bars"].items()]
        for large, small, bar in GROWTH:
            if name == large and (small, gradient) in results:
                measured.append((f"x {small}", record["results"][contender]["ms"] / results[small, gradient][contender]["ms"], bar))
        for quantity, value, bar in measured:
            about = {"workload": name, "input gradient": gradient, "contender": contender, "quantity": quantity}
            found.append({**about, "measured": value, "at most": bar, "holds": value <= bar})
    return found


def show(record: dict[str, Any]) -> None:
    """A workload's table."""
    workload, results = Workload(**record["workload"]), record["results"]
    print(f"\n{workload} ({workload.name}), {'with' if record['input gradient'] else 'without'} the gradient of the input")
    print(f"{'':18} {'ms':>10} {'x linear':>9} {'x dense':>9} {'saved MB':>9} {'rounds':>7}  bars")
    for name, found in results.items():
        bars = [f"{q} {'holds' if found[q] <= bar else 'MISSED'} ({bar:g})" for q, bar in workload.bars.items() if name in OURS]
        figures = f"{found['ms']:10.3f} {found['x linear']:9.2f} {found['x dense']:9.3f} {found['saved MB']:9.2f} {found['rounds']:7}"
        print(f"{name:18} {figures}  {', '.join(bars)}")
    for name, reason in record["stopped"].items():
        print(f"{name:18} stopped: {reason}")
    sys.stdout.flush()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="WORKLOAD", choices=[w.name for w in WORKLOADS], help="names of workloads")
    parser.add_argument("--seconds", type=float, default=6.0, help="of rounds in this process, for every table")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; the other libraries run on the CPU only")
    parser.add_argument("--skip-others", action="store_true", help="leave the other libraries out")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads that torch may use")
    parser.add_argument("--memory", type=float, default=16.0, help="GiB of address space for another library")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds that another library may take to answer")
    parser.add_argument("--environments", type=Path, default=ROOT / "build", help="where the other libraries are installed")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "layers.json")
    parser.add_argument("--serve", choices=LIBRARIES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.serve:
        return serve(arguments.serve, arguments.memory)

    sys.path.insert(0, str(ROOT))  # the dense layer is among the tests, which are not installed
    wanted = [] if arguments.skip_others or arguments.device != "cpu" else list(LIBRARIES)
    pythons = {name: python_of(LIBRARIES[name].library, arguments.environments / f"{name}-environment") for name in wanted}
    records = []
    for workload in WORKLOADS:
        if arguments.only is None or workload.name in arguments.only:
            found = measure(workload, pythons, arguments)
            for each in found:
                show(each)
            records += found

    bars = judged(records)
    print(f"\n{'workload':14} {'input gradient':15} {'contender':18} {'quantity':12} {'measured':>9} {'at most':>8}  holds")
    for bar in bars:
        case = f"{bar['workload']:14} {'with' if bar['input gradient'] else 'without':15} {bar['contender']:18} {bar['quantity']:12}"
        print(f"{case} {bar['measured']:9.3f} {bar['at most']:8g}  {'yes' if bar['holds'] else 'NO'}")

    device = torch.cuda.get_device_name(arguments.device) if arguments.device.startswith("cuda") else "cpu"
    where = {**surroundings(arguments.threads), "pykan": PYKAN.version, "torchcurves": TORCHCURVES.version, "device": device}
    limits = {"GiB of memory": arguments.memory, "seconds for an answer": arguments.limit}
    settings = {"seconds": arguments.seconds, "other libraries": wanted, "their limits": limits}
    write({"environment": where, "settings": settings, "bars": bars, "records": records}, arguments.output)


if __name__ == "__main__":
    main()
