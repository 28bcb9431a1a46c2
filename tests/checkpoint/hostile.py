"""Damaged and hostile checkpoints, and what becomes of them when they are opened.

A case spoils a copy of a folder of whole checkpoints and opens it. It is

    *refused* if the call raises ValueError, FileNotFoundError or, where no file stands in the place of one, another OSError, whose message
    names the file;

    *unchanged* if what was opened is equal to what was saved, bit for bit;

    *unknowable* if it differs where nothing says what it should be: the seal of ours fits, theirs has none, and it may be meant so;

    *executed* if something in it was; everything else is *wrong*.

``python -m tests.checkpoint.hostile SEED ROUNDS TYPES`` prints a line of JSON per case, see `cases`. It is to be run as a process of its
own: a case that crashed the interpreter would end it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import random
import shutil
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor

from kan import KAN
from kan.checkpoint import files, format

ROOM = 3 * 2**30
"""Bytes of address space that the cases may have on top of what the libraries take."""
KINDS = ("config.yml", "state", "cache_data", "optimizer")


class Case(NamedTuple):
    """One way to spoil the folder.

    Attributes:
        name: what is done.
        group: kind of damage.
        spoil: does it, in the working directory.
        opened: what is opened: a version, a folder, or a single file.
        names: any of these in the message names the file.
        knowable: whether the file says what it should be.
    """

    name: str
    group: str
    spoil: Callable[[], object]
    opened: str = "ours/0.1"
    names: tuple[str, ...] = ("0.1_",)
    knowable: bool = True


# What is spoilt


def prepare() -> None:
    """Whole checkpoints: folders of versions ``ours`` and, as pykan writes them, ``theirs``; single files in both formats."""
    x = torch.rand(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    model = KAN([2, [2, 1], 1], seed=3, ckpt_path="ours").double()
    model.in_vars = ["width", "height"]
    model.fit((x, x[:, [0]]), steps=1, progress=False)
    model.save("m.safetensors", format="safetensors")
    model.save("m.zip", format="zip")
    model.fix_symbolic(0, 0, 0, "sin", verbose=False)
    model.fit((x + 0.01, x[:, [0]]), steps=1, progress=False)
    os.makedirs("theirs")
    for version in ("0.0", "0.1"):
        config, _ = files.parse_config(Path(f"ours/{version}_config.yml").read_bytes(), "")
        own = {
            *format.OWN_SETTINGS,
            "format",
            "dtype",
            "input_id",
            "input_width",
            "labels",
            "keep",
            "losses",
            "sha256",
            "save_data",
            "version",
        }
        theirs = {name: value for name, value in config.items() if name not in own | {"history"}}
        Path(f"theirs/{version}_config.yml").write_text(yaml.dump({**theirs, "ckpt_path": "theirs"}))
        for kind in KINDS[1:3]:
            shutil.copy(f"ours/{version}_{kind}", f"theirs/{version}_{kind}")
    Path("theirs/history.txt").write_text("### Round 0 ###\ninit => 0.0\n0.0 => fit => 0.1\n")


def opened(path: str) -> KAN:
    """The model, however it was saved."""
    return KAN.load(path) if path.startswith("m.") else KAN.loadckpt(path)


def whole(model: KAN) -> dict[str, Any]:
    """Everything that a checkpoint says of a model, as plain data and lists of tensors."""
    described = {**format.describe(model, model._saved()), "save_data": model.store.save_data}
    return {
        "config": described, "state": dict(model.state_dict()), "data": model.last_input, "optimizer": model.optimizer_state,
        "types": [str(value.dtype) for value in model.state_dict().values()],
    }  # fmt: skip


def equal(one: Any, other: Any) -> bool:
    """Equality of nested data, bit for bit."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and bool(one == other)


# Ways to spoil it


def flip(file: str, at: float, bit: int) -> None:
    content = bytearray(Path(file).read_bytes())
    content[int(at * len(content))] ^= 1 << bit
    Path(file).write_bytes(content)


def truncate(file: str, at: float) -> None:
    os.truncate(file, int(at * os.path.getsize(file)))


def swap(one: str, other: str) -> None:
    os.rename(one, "between")
    os.rename(other, one)
    os.rename("between", other)


def reconfigure(change: Callable[[dict[str, Any]], object], folder: str = "ours") -> None:
    """Another configuration, with a seal that fits."""
    file = Path(f"{folder}/0.1_config.yml")
    config, sealed = files.parse_config(file.read_bytes(), "")
    change(config)
    text = yaml.safe_dump(config, default_flow_style=False).encode()
    file.write_bytes(text + files.SEAL + files.digest(text).encode() + b"\n" if sealed else text)


def rewrite(text: str | bytes, folder: str = "ours", *, more: bool = False) -> None:
    """Another text, or one behind what there is, with a seal that fits."""
    file = Path(f"{folder}/0.1_config.yml")
    sealed = files.SEAL in file.read_bytes()
    content = file.read_bytes().rpartition(files.SEAL)[0] if more and sealed else file.read_bytes() if more else b""
    content += text.encode() if isinstance(text, str) else text
    file.write_bytes(content + files.SEAL + files.digest(content).encode() + b"\n" if sealed else content)


def put(kind: str, content: bytes, folder: str = "ours") -> None:
    """Another file, which the configuration knows."""
    Path(f"{folder}/0.1_{kind}").write_bytes(content)
    if folder == "ours":
        reconfigure(lambda config: config["sha256"].update({kind: files.digest(content)}))


def edit(kind: str, change: Callable[[dict[str, Any]], object], folder: str = "ours") -> None:
    """Other tensors, which the configuration knows."""
    value = torch.load(f"{folder}/0.1_{kind}", weights_only=True)
    change(value)
    put(kind, files.dump_tensors(value), folder)


def add(line: str) -> None:
    with open("ours/history.txt", "a") as file:
        file.write(line)


class Malicious:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def pickles() -> dict[str, bytes]:
    saved, legacy = io.BytesIO(), io.BytesIO()
    torch.save({"act_fun.0.coef": Malicious()}, saved)
    torch.save({"act_fun.0.coef": torch.zeros(1)}, legacy, _use_new_zipfile_serialization=False)
    bare = pickle.dumps(Malicious())
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written, zipfile.ZipFile(io.BytesIO(files.dump_tensors({"a": torch.zeros(2)}))) as read:
        for name in read.namelist():
            written.writestr(name, b"cos\nmkdir\n(S'executed'\ntR." if name.endswith("data.pkl") else read.read(name))
    through = b"ctorch.serialization\nload\n(S'x'\ntR."
    return {
        "a bare pickle": bare, "an object in torch.save": saved.getvalue(), "os.mkdir in data.pkl": archive.getvalue(),
        "torch's former format": legacy.getvalue(), "a pickle before it": bare + legacy.getvalue(), "torch.load": through,
    }  # fmt: skip


def zeros() -> bytes:
    """Compressed zeros, a thousand times as many as the file has bytes."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as written, written.open("archive/data/0", "w", force_zip64=True) as record:
        for _ in range(2**8):
            record.write(bytes(2**20))
    return archive.getvalue()


def other_numel() -> bytes:
    """A tensor that claims more numbers than its record has."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written, zipfile.ZipFile("ours/0.1_state") as read:
        for name in read.namelist():
            content = read.read(name)
            written.writestr(name, content.replace(b"K\x06", b"M\xff\xff") if name.endswith("data.pkl") else content)
    return archive.getvalue()


HUGE = 10**13
TENSORS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a tensor of stride 0": lambda state: state.update({"act_fun.0.coef": torch.zeros(1).expand(HUGE)}),
    "another shape": lambda state: state.update({"act_fun.0.coef": torch.zeros(2, 4, 9)}),
    "another shape of a mask": lambda state: state.update({"symbolic_fun.0.mask": torch.zeros(9)}),
    "three numbers for one": lambda state: state.update({"node_bias_1": torch.zeros(3)}),
    "integers": lambda state: state.update({"act_fun.0.coef": torch.zeros_like(state["act_fun.0.coef"], dtype=torch.int64)}),
    "complex numbers": lambda state: state.update({"act_fun.0.coef": state["act_fun.0.coef"] * 1j}),
    "a sparse tensor": lambda state: state.update({"act_fun.0.coef": state["act_fun.0.coef"].to_sparse()}),
    "a tensor without numbers": lambda state: state.update({"act_fun.0.coef": torch.empty(HUGE, device="meta")}),
    "8-bit numbers": lambda state: state.update({"act_fun.0.coef": state["act_fun.0.coef"].to(torch.float8_e4m3fn)}),
    "a missing entry": lambda state: state.pop("node_bias_0"),
    "one entry more": lambda state: state.update({"act_fun.2.coef": torch.zeros(2)}),
    "an entry that is no name": lambda state: state.update({3: torch.zeros(2)}),
    "text for a tensor": lambda state: state.update({"act_fun.0.coef": "text"}),
    "a list for a tensor": lambda state: state.update({"act_fun.0.grid": [1.0]}),
    "nothing": lambda state: state.clear(),
    "layers of no size": lambda state: state.update({"act_fun.0.coef": torch.zeros(0, HUGE, 6), "act_fun.1.coef": torch.zeros(HUGE, 0, 6)}),
}

SIZES: dict[str, dict[str, Any]] = {
    "a width of 10^9": {"width": [10**9, 1]},
    "multiplication nodes, 10^9": {"width": [2, [0, 10**9], 1]},
    "10^9 nodes and none": {"width": [[0, 10**9], [0, 0], 1]},
    "10^4 layers": {"width": [1] * 10**4},
    "outputs, 10^9": {"width": [2, [2, 1], 10**9]},
    "an arity of 10^9": {"mult_arity": 10**9},
    "arities of 10^9": {"mult_arity": [[], [10**9], []]},
    "10^8 intervals": {"grid": 10**8},
    "10^8 intervals in a layer": {"grid": [3, 10**8]},
    "a degree of 10^8": {"k": 10**8},
    "intervals and degree that add up": {"grid": 10**8, "k": 6 - 10**8},
    "a degree of -3": {"grid": 9, "k": -3},
    "10^30 intervals": {"grid": 10**30},
    "an input of 10^18 columns": {"input_width": 10**18, "input_id": [0, 10**18]},
    "a column of 10^30": {"input_id": [0, 10**30]},
}

WRONG: list[Any] = ["text", "../../x", 2.5, -7, float("nan"), float("inf"), None, [], ["a"], [[]], [None, None], {}, {"a": {"b": 1}}]

TEXTS: dict[str, str | bytes] = {
    "a call in a tag": "evil: !!python/object/apply:os.mkdir [executed]\n",
    "a name in a tag": "evil: !!python/name:os.system ''\n",
    "an object in a tag": "evil: !!python/object:collections.Counter {}\n",
    "a module in a tag": "evil: !!python/module:os ''\n",
    "an unknown tag": "evil: !unknown 3\n",
    "a tag in the place of a number": "noise_scale: !!python/object/apply:os.mkdir [executed]\n",
    "true or false that is neither": "evil: !!bool maybe\n",
    "a date that is none": "evil: !!timestamp abc\n",
    "an integer without digits": "evil: !!int ''\n",
    "a date of 99 days": "evil: 2026-99-99\n",
    "an integer of 20000 digits": "evil: " + "9" * 20000 + "\n",
    "an integer of 20000 hexadecimal digits": "width: 0x" + "f" * 20000 + "\n",
    "10^5 brackets": "evil: " + "[" * 10**5 + "\n",
    "10^5 pairs of brackets": "evil: " + "[" * 10**5 + "]" * 10**5 + "\n",
    "10^5 dashes": "evil:\n  " + "- " * 10**5 + "\n",
    "10^5 braces": "evil: " + "{a: " * 10**5 + "\n",
    "references that multiply": "a0: &a0 [1]\n"
    + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(12))
    + "width: *a12\n",
    "mappings merged": "a0: &a0 {x: 1}\n" + "".join(f"a{n + 1}: &a{n + 1} {{<<: [{', '.join([f'*a{n}'] * 10)}]}}\n" for n in range(12)),
    "a circle of references": "width: &a [*a]\n",
    "a reference that leads nowhere": "width: *nowhere\n",
    "a date for a number": "grid_eps: 2026-01-01\n",
    "a null character": 'ckpt_path: "a\\0b"\n',
    "a key that is a list": "? [1, 2]\n: 3\n",
    "control characters": b"evil: \x01\x02\n",
    "no UTF-8": b"evil: \xff\xfe\xfa\n",
    "two documents": "---\na: 1\n",
    "UTF-16": "width: [2, 1]".encode("utf-16"),
}  # fmt: skip

PATHS = {
    "a folder elsewhere": "../../elsewhere", "the root": "/", "a folder of the system": "/etc", "a home": os.path.expanduser("~"),
    "up and down": "ours/../../elsewhere",
}  # fmt: skip


def odd_files(kind: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """What may stand in the place of a file."""
    file = f"ours/0.1_{kind}"

    def place(make: Callable[[], object]) -> Callable[[], object]:
        return lambda: (os.unlink(file), make())

    yield "a folder", place(lambda: os.mkdir(file))
    if os.name == "posix":
        yield "a link to itself", place(lambda: os.symlink(os.path.basename(file), file))
        yield "a pipe", place(lambda: os.mkfifo(file))
        yield "endless zeros", place(lambda: os.symlink("/dev/zero", file))


def cases(rng: random.Random, rounds: int, types: float) -> Iterator[Case]:
    """All cases.

    Args:
        rng: chooses places.
        rounds: how many there are of every kind that has a place.
        types: share of the values of wrong types, of which there are many.
    """
    files_of = {f"ours/0.1_{kind}": ("ours/0.1", (f"0.1_{kind}", "0.1_config.yml")) for kind in KINDS}
    files_of |= {"ours/history.txt": ("ours", ("history.txt", "_config.yml"))}
    files_of |= {file: (file, (file,)) for file in ("m.safetensors", "m.zip")}
    theirs = {f"theirs/0.1_{kind}": ("theirs/0.1", ("0.1_",)) for kind in KINDS[:3]}
    for file, (path, names) in [*files_of.items(), *theirs.items()]:
        knowable = not file.endswith("theirs/0.1_config.yml")
        for _ in range(rounds):
            at, bit = rng.random(), rng.randrange(8)
            yield Case(f"bit {bit} at {at:.3f} of {file}", "flip", lambda f=file, a=at, b=bit: flip(f, a, b), path, names, knowable)
        for at in [0.0, *(rng.random() for _ in range(rounds))] if file != "ours/history.txt" else []:
            yield Case(f"{at:.3f} of {file}", "truncation", lambda f=file, a=at: truncate(f, a), path, names, knowable)

    for kind in KINDS:
        yield Case(f"0.3's {kind}", "swap", lambda k=kind: swap(f"ours/0.1_{k}", f"ours/0.3_{k}"))
        for name, spoil in odd_files(kind):
            yield Case(f"{name} for {kind}", "file", spoil)
    yield Case("0.3 for 0.1", "swap", lambda: [swap(f"ours/0.1_{kind}", f"ours/0.3_{kind}") for kind in KINDS])
    yield Case("0.0 for 0.1", "swap", lambda: [shutil.copy(f"ours/0.0_{kind}", f"ours/0.1_{kind}") for kind in KINDS[:3]])
    yield Case("the state for the data", "swap", lambda: swap("ours/0.1_state", "ours/0.1_cache_data"))
    yield Case("one format for the other", "swap", lambda: shutil.copy("ours/0.1_state", "m.zip"), "m.zip", ("m.zip",))
    yield Case("a state alone", "swap", lambda: shutil.copy("ours/0.1_state", "m.safetensors"), "m.safetensors", ("m.safetensors",))
    yield Case("a folder for a single file", "file", lambda: (os.unlink("m.zip"), os.mkdir("m.zip")), "m.zip", ("m.zip",))

    for name, content in pickles().items():
        for folder in ("ours", "theirs"):
            for kind in KINDS[1:] if folder == "ours" else KINDS[1:3]:
                yield Case(f"{name} for {folder}' {kind}", "pickle", lambda k=kind, c=content, f=folder: put(k, c, f), f"{folder}/0.1")
        yield Case(f"{name} for a configuration", "pickle", lambda c=content: Path("ours/0.1_config.yml").write_bytes(c))
        for file in ("m.zip", "m.safetensors"):
            yield Case(f"{name} for {file}", "pickle", lambda f=file, c=content: Path(f).write_bytes(c), file, (file,))
    bomb = zeros()
    for kind in KINDS[1:]:
        yield Case(f"compressed zeros for {kind}", "bomb", lambda k=kind: put(k, bomb))
    yield Case("compressed zeros for m.zip", "bomb", lambda: Path("m.zip").write_bytes(bomb), "m.zip", ("m.zip",))
    yield Case("more numbers than the record has", "tensor", lambda: put("state", other_numel()))
    for kind in KINDS[2:]:
        for what in (torch.zeros(1, dtype=torch.float64).expand(HUGE, 2), torch.empty(HUGE, 2, device="meta")):
            content = files.dump_tensors(what if kind == "cache_data" else {"state": what})
            yield Case(f"{tuple(what.stride())}, {what.device} for {kind}", "tensor", lambda k=kind, c=content: put(k, c))

    for folder in ("ours", "theirs"):
        path = f"{folder}/0.1"
        for name, change in TENSORS.items():
            yield Case(f"{name} in {folder}", "tensor", lambda c=change, f=folder: edit("state", c, f), path)
        for name, entries in SIZES.items():
            yield Case(f"{name} in {folder}", "size", lambda e=entries, f=folder: reconfigure(lambda said: said.update(e), f), path)
        for name, text in TEXTS.items():
            yield Case(f"{name} behind {folder}", "yaml", lambda t=text, f=folder: rewrite(t, f, more=True), path)
        for name, place in PATHS.items():
            yield Case(
                f"{name} in {folder}", "path",
                lambda p=place, f=folder: (os.unlink(f"{f}/history.txt"), reconfigure(lambda said: said.update(ckpt_path=p), f)), path,
            )  # fmt: skip
        config, _ = files.parse_config(Path(f"{path}_config.yml").read_bytes(), "")
        for key in config:
            for value in (value for value in WRONG if rng.random() < types):
                if key == "symbolic.funs_name.0" and isinstance(value, list):
                    value = [[value] * 2] * 4
                yield Case(
                    f"{key}: {value!r} in {folder}", "type",
                    lambda k=key, v=value, f=folder: reconfigure(lambda said: said.update({k: v}), f), path, knowable=False,
                )  # fmt: skip
            yield Case(
                f"no {key} in {folder}",
                "type",
                lambda k=key, f=folder: reconfigure(lambda said: said.pop(k), f),
                path,
                knowable=False,
            )
    for name, text in TEXTS.items():
        yield Case(f"nothing but {name}", "yaml", lambda t=text: rewrite(t))
    for name, line in {
        "a path": "0.3 => fit => ../../x\n", "a version that is not": "0.3 => fit => 0.9\n", "an older version": "0.3 => fit => 0.1\n",
        "another parent": "0.0 => fit => 0.3\n", "half a name": "0.3 => fit => 0.", "a great number": f"0.3 => fit => 0.{'9' * 5000}\n",
    }.items():  # fmt: skip
        yield Case(f"{name} in history.txt", "history", lambda t=line: add(t), "ours", ("history.txt", "_config.yml"))
    yield Case("no text in history.txt", "history", lambda: Path("ours/history.txt").write_bytes(b"\xff\xfe\n"), "ours", ("history.txt",))


# What becomes of it


def listing() -> dict[str, Any]:
    """Every file there is, with its size."""
    return {str(path): os.lstat(path).st_size for path in sorted(Path().rglob("*"))}


def outcome(case: Case, originals: dict[str, Any]) -> tuple[str, str]:
    """What becomes of a case in the working directory, with the message, see above."""
    case.spoil()
    before, message = listing(), ""
    try:
        found = whole(opened(case.opened))
        same = equal(found, originals[case.opened])
        result = "unchanged" if same else "unknowable" if not case.knowable else "wrong"
        message = "" if same else str([key for key in found if not equal(found[key], originals[case.opened][key])])
    except (ValueError, OSError) as error:
        message = str(error)
        kind = (ValueError, OSError) if case.group == "file" else (ValueError, FileNotFoundError)
        named = any(name in message for name in case.names)
        result = "refused" if named and isinstance(error, kind) and len(message) < 3000 else "wrong"
        message = f"{type(error).__name__}: {message[:300]}"
    except BaseException as error:
        result, message = "wrong", f"{type(error).__name__}: {str(error)[:300]}"
    if os.path.exists("executed"):
        return "executed", message
    return ("wrong", "files were changed") if listing() != before else (result, message)


def limit_memory() -> None:
    """What allocates absurd sizes is to fail."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))


def run(seed: int, rounds: int, types: float) -> None:
    """All cases, a line of JSON each."""
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    rng, out = random.Random(seed), sys.stdout
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        kit, place = Path(folder, "a", "kit"), Path(folder, "a", "b")
        kit.mkdir(parents=True)
        os.chdir(kit)
        prepare()
        originals = {path: whole(opened(path)) for path in ("ours/0.1", "theirs/0.1", "m.zip", "m.safetensors", "ours")}
        limit_memory()
        for case in cases(rng, rounds, types):
            shutil.copytree(kit, place)
            os.chdir(place)
            print(json.dumps({"begun": case.name}), file=out, flush=True)
            begun = time.perf_counter()
            result, message = outcome(case, originals)
            seconds = round(time.perf_counter() - begun, 3)
            record = {"name": case.name, "group": case.group, "outcome": result, "message": message, "seconds": seconds}
            print(json.dumps(record), file=out, flush=True)
            os.chdir(kit)
            shutil.rmtree(place)


if __name__ == "__main__":
    run(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
