"""Checkpoints under kills, beside other writers, and on disks that are full or read-only.

Every version that is written here holds a number: in all its coefficients, in its data (a fifth of it, so that five versions share them),
in the state of its optimiser, and in the name of the method in the history. What belongs to another version shows.

``python -m tests.checkpoint.durability COMMAND JSON`` runs one of `COMMANDS` in the working directory, and prints its figures. It
needs POSIX: processes are made by forking one that has imported everything.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kan import KAN
from kan.checkpoint import lineage

Figures = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
FOLDER = "model"
TOKEN = re.compile(r"token([0-9]+)")
TRAINED = -1
"""Stands for the numbers of a fit."""
LIMIT = 60.0
"""Seconds that any process may take."""


# Numbers in models


def mark(model: KAN, number: int) -> None:
    """Put `number` everywhere."""
    with torch.no_grad():
        for layer in model.numeric_layers:
            layer.coef.fill_(number)
    model.remember_input(torch.full((6, 2), float(number // 5)))
    model.optimizer_state = {"number": torch.tensor(number), "moments": torch.full((200,), float(number))} if number % 3 else None


def number_of(model: KAN) -> int:
    """The number that is everywhere in `model`.

    Raises:
        AssertionError: if there are several.
    """
    numbers = {float(value) for layer in model.numeric_layers for value in layer.coef.detach().flatten()}
    assert len(numbers) == 1, f"coefficients {numbers}"
    number = int(numbers.pop())
    assert model.last_input is not None and set(model.last_input.flatten().tolist()) == {float(number // 5)}, "other data"
    if number % 3:
        state = model.optimizer_state
        assert state is not None and int(state["number"]) == number and set(state["moments"].tolist()) == {float(number)}, "other optimiser"
    else:
        assert model.optimizer_state is None, "an optimiser"
    return number


def is_new(model: KAN) -> bool:
    """Whether `model` is as its seed has made it."""
    fresh = KAN([2, 2, 1], seed=model.seed, auto_save=False).state_dict()
    return all(torch.equal(value, fresh[name]) for name, value in model.state_dict().items())


def check_folder(folder: str = FOLDER) -> dict[lineage.Version, int | None]:
    """The number of every listed version, None for new models, when all have been loaded.

    Raises:
        Exception: if one cannot be loaded, or is not what its line says.
    """
    lineage.check(folder)
    numbers: dict[lineage.Version, int | None] = {}
    listed = Counter(entry.version for entry in lineage.entries(folder))
    assert not listed or max(listed.values()) == 1, f"twice: {listed.most_common(1)}"
    for entry in lineage.entries(folder):
        said = TOKEN.search(entry.method)
        expected = int(said[1]) if said else numbers.get(entry.parent) if entry.parent else None
        if entry.method == "fit":
            expected = TRAINED
        numbers[entry.version] = expected
        if entry.removed:
            continue
        model = KAN.loadckpt(f"{folder}/{lineage.written(entry.version)}")
        if expected == TRAINED:
            continue
        if expected is None:
            assert is_new(model), f"{entry} is no new model"
        else:
            assert number_of(model) == expected, f"{entry} has {number_of(model)}"
    return numbers


# Processes


def forked(work: Callable[[], Any]) -> tuple[int, int]:
    """Run `work` in a child; return its process and where it writes the JSON of its result, or ``{"error": ...}``."""
    read, write = os.pipe()
    process = os.fork()
    if process:
        os.close(write)
        return process, read
    status = 1
    try:
        os.close(read)
        sys.stdout = open(os.devnull, "w")
        signal.alarm(int(LIMIT))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                result = {"result": work(), "warnings": [str(warning.message) for warning in caught]}
            except BaseException:
                result = {"error": traceback.format_exc()[-3000:]}
        with os.fdopen(write, "w") as stream:
            stream.write(json.dumps(result))
        status = 0
    finally:
        os._exit(status)


def result_of(process: int, read: int) -> dict[str, Any]:
    """What a child has written, when it has ended."""
    with os.fdopen(read) as stream:
        text = stream.read()
    os.waitpid(process, 0)
    return dict(json.loads(text)) if text else {"error": "it ended without a result"}


# Stories: what the process does that is killed. Each tells what it has begun and what it has finished.


class Log:
    """Lines to a pipe."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def __call__(self, *words: object) -> None:
        os.write(self.handle, (" ".join(map(str, words)) + "\n").encode())


def save_versions(numbers: range, rng: random.Random, log: Log, keep: int | None, anew: bool) -> None:
    """Versions of one model after another, with changes of all kinds."""
    model = None
    with contextlib.suppress(FileNotFoundError):
        model = KAN.loadckpt(FOLDER)
    model = KAN([2, 2, 1], seed=numbers[0], ckpt_path=FOLDER, keep=keep) if model is None else model
    for number in numbers:
        choice = rng.random()
        if anew and choice < 0.2:
            log("anew")
            model = KAN([2, 2, 1], seed=number, ckpt_path=FOLDER, keep=keep)
        mark(model, number)
        log("begun", number)
        model.log_history(f"token{number}")
        log("finished", number)
        if choice > 0.9:
            model = model.rewind(f"{model.round}.{model.state_id}")
        elif choice > 0.8:
            model.log_history("prune_edge")


def save_one_path(numbers: range, rng: random.Random, log: Log) -> None:
    """One checkpoint over the other."""
    model = KAN([2, 2, 1], auto_save=False)
    for number in numbers:
        mark(model, number // 2 if rng.random() < 0.3 else number)
        log("begun", number_of(model))
        model.saveckpt("one/v")
        log("finished", number_of(model))


def save_one_file(numbers: range, rng: random.Random, log: Log) -> None:
    """One file over the other, in both formats."""
    model = KAN([2, 2, 1], auto_save=False)
    for number in numbers:
        mark(model, number)
        log("begun", number)
        model.save("file.kan", format=rng.choice(["zip", "safetensors"]))
        log("finished", number)


Story = Callable[[range, random.Random, Log], None]
STORIES: dict[str, Story] = {
    "versions": lambda numbers, rng, log: save_versions(numbers, rng, log, None, False),
    "keep": lambda numbers, rng, log: save_versions(numbers, rng, log, 3, False),
    "anew": lambda numbers, rng, log: save_versions(numbers, rng, log, rng.choice([None, 3]), True),
    "one path": save_one_path,
    "one file": save_one_file,
}


def go_on(story: str, lines: list[str], number: int) -> dict[str, Any]:
    """What a process finds after the kill of one that told `lines`, and that it can go on.

    Raises:
        Exception: if something is lost, or is not what it should be.
    """
    told = [line.split() for line in lines]
    begun = [int(words[1]) for words in told if words[0] == "begun"]
    finished = [int(words[1]) for words in told if words[0] == "finished"]
    if story in ("one path", "one file"):
        load = (lambda: KAN.loadckpt("one/v")) if story == "one path" else (lambda: KAN.load("file.kan"))
        try:
            model = load()
        except FileNotFoundError:
            assert not finished, "the checkpoint is not there"
            return {"listed": 0}
        found = number_of(model) if story == "one path" else int(model.numeric_layers[0].coef.flatten()[0])
        before = int(Path("before").read_text()) if Path("before").exists() else -1
        old_or_new = {finished[-1] if finished else before, begun[-1] if begun else before}
        assert found in old_or_new, f"found {found}, neither of {old_or_new}"
        Path("before").write_text(str(found))
        return {"listed": 1}
    if not Path(FOLDER, "history.txt").exists():
        assert not begun, "there is no history"
        return {"listed": 0}
    numbers = check_folder()
    anew = max((place for place, words in enumerate(told) if words[0] == "anew"), default=-1)
    kept = {int(words[1]) for words in told[anew + 1 :] if words[0] == "finished"}
    if told[-1:] != [["anew"]]:  # which may have begun another history, or not yet
        assert kept <= {*numbers.values()}, f"lost: {kept - {*numbers.values()}}"
    last = [entry for entry in lineage.entries(FOLDER) if not entry.removed][-1].version
    model = KAN.loadckpt(FOLDER)
    assert (model.round, model.state_id) == (last[0] + 1, last[1])
    mark(model, number)
    model.log_history(f"token{number}")
    assert number_of(KAN.loadckpt(FOLDER)) == number
    return {"listed": len(numbers), "loaded": sum(not entry.removed for entry in lineage.entries(FOLDER))}


def leftovers() -> set[str]:
    """Signs that a kill has hit a save: parts, half a line, a version that no line names."""
    found = {str(path) for path in Path().rglob("*.part")}
    if Path(FOLDER, "history.txt").exists():
        text = Path(FOLDER, "history.txt").read_bytes()
        found |= set() if text.endswith(b"\n") else {f"half a line: {text[-20:]!r}"}
        listed = {lineage.written(entry.version) for entry in lineage.entries(FOLDER) if not entry.removed}
        found |= {f"unlisted: {path}" for path in Path(FOLDER).glob("*_config.yml") if path.name.split("_")[0] not in listed}
    return found


def kills(count: int, seed: int) -> Figures:
    """Kill a process that saves all the time, `count` times, and look at what is left; the stories take turns, in folders of their own."""
    rng, figures = random.Random(seed), Counter[str]()
    trouble: list[str] = []
    root = os.getcwd()
    for turn in range(count):
        story = list(STORIES)[turn % len(STORIES)]
        os.makedirs(f"{root}/{story} {turn // 25}", exist_ok=True)
        os.chdir(f"{root}/{story} {turn // 25}")
        before = leftovers()
        read, write = os.pipe()
        numbers, draw = range(turn * 1000, turn * 1000 + 999), random.Random(rng.random())

        def work(story: str = story, write: int = write, numbers: range = numbers, draw: random.Random = draw) -> None:
            STORIES[story](numbers, draw, Log(write))

        process, answer = forked(work)
        os.close(write)
        select.select([read], [], [], LIMIT)  # the first line
        time.sleep(rng.random() * 0.15)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        with os.fdopen(answer) as stream:
            early = stream.read()
        with os.fdopen(read) as stream:
            lines = stream.read().splitlines()
        figures["saves"] += sum(line.startswith("finished") for line in lines)
        new = leftovers() - before
        figures["in the middle of a save"] += bool(lines) and not lines[-1].startswith("finished")
        for sign in ("part", "half a line", "unlisted"):
            figures[f"left {sign}"] += any(sign in found for found in new)
        after = result_of(*forked(lambda story=story, lines=lines, turn=turn: go_on(story, lines, turn * 1000 + 999)))
        for error in filter(None, [after.get("error"), early]):
            trouble.append(f"kill {turn}, {story}: {error}")
        for name, value in after.get("result", {}).items():
            figures[name] += value
    os.chdir(root)
    return {"kills": count, **figures, "trouble": trouble}


# A reader beside a writer


def reader(story: str, count: int, seed: int) -> Figures:
    """Load what another process saves over and over again, `count` times, until it has ended."""
    process, answer = forked(lambda: STORIES[story](range(1, count + 1), random.Random(seed), Log(os.open(os.devnull, os.O_WRONLY))))
    figures, trouble = Counter[str](), []
    ended = False
    while not ended:
        ended = bool(select.select([answer], [], [], 0)[0])
        try:
            if story == "one path":
                number = number_of(KAN.loadckpt("one/v"))
            else:
                (number,) = {float(value) for layer in KAN.load("file.kan").numeric_layers for value in layer.coef.detach().flatten()}
            figures["loads"] += 1
            figures["last"] = int(number)
        except FileNotFoundError:
            trouble += ["it is gone"] if figures["loads"] else []
        except Exception:
            trouble.append(traceback.format_exc()[-1000:])
    written = result_of(process, answer)
    return {**figures, "trouble": trouble + ([written["error"]] if "error" in written else [])}


# Two writers


def writer(number: int, count: int, begin: bool, here: int, go: int) -> list[list[Any]]:
    """Save `count` versions; say so and wait for the other when the model is there, and in the end."""
    model = KAN([2, 2, 1], seed=number, ckpt_path=FOLDER) if begin else KAN.loadckpt(f"{FOLDER}/0.0")
    os.write(here, b"x")
    os.read(go, 1)
    made: list[list[Any]] = [[model.round, model.state_id, None]] if begin else []
    for n in range(count):
        mark(model, number + n)
        model.log_history(f"token{number + n}")
        made.append([model.round, model.state_id, number + n])
    os.write(here, b"x")
    os.read(go, 1)
    return made


def writers(count: int, begin: bool) -> Figures:
    """Two processes save `count` versions each in one folder, of new models, or of the same version loaded."""
    if not begin:
        result_of(*forked(lambda: KAN([2, 2, 1], ckpt_path=FOLDER).round))
    (arrived, here), (go, start) = os.pipe(), os.pipe()
    children = [forked(lambda number=number: writer(number, count, begin, here, go)) for number in (1000, 2000)]
    for _ in range(2):
        for _ in children:
            select.select([arrived], [], [], LIMIT)
            os.read(arrived, 1)
        os.write(start, b"xx")
    results = [result_of(*child) for child in children]
    trouble = [result["error"] for result in results if "error" in result]
    told = [text for result in results for text in result.get("warnings", [])]
    checked = result_of(*forked(lambda: [[*version, number] for version, number in check_folder().items()]))
    trouble += [checked["error"]] if "error" in checked else []
    found = sorted(map(str, checked.get("result", [])))
    expected = sorted(str(made) for result in results for made in result.get("result", []))
    expected += [] if begin else ["[0, 0, None]"]
    trouble += [] if found == sorted(expected) else [f"listed {len(found)}, saved {len(expected)}: {set(found) ^ set(expected)}"]
    rounds = Counter(made[0] for made in checked.get("result", []))
    return {"saves": 2 * count, "listed": len(found), "versions by round": dict(rounds), "told": told, "trouble": trouble}


# Disks


class Ballast:
    """A small file system that can be filled: a tmpfs of this process's own namespace, see `unshare`."""

    def __init__(self) -> None:
        self.file = Path(FOLDER, "ballast")

    def fill(self, pages: int) -> None:
        """Leave so many pages of 4096 bytes."""
        with open(self.file, "wb", buffering=0) as stream, contextlib.suppress(OSError):
            while True:
                stream.write(bytes(4096))
        os.truncate(self.file, max(0, os.path.getsize(self.file) - 4096 * pages))

    def clear(self) -> None:
        """Leave all."""
        self.file.unlink()


class SizeLimit:
    """A limit on the size of files, which does as well: the larger ones fail."""

    def __init__(self) -> None:
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill(self, size: int) -> None:
        """Let no file be larger than `size` bytes."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, self.before[1]))

    def clear(self) -> None:
        """Let files have any size."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


def place_of(error: BaseException | None) -> str:
    """What could not be written when `error` was raised: a file of a version, the history, or the mark of what is removed."""
    places = []
    trace = error.__traceback__ if error else None
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_name == "_write_part":
            places.append(re.sub(r".*?([a-z_]+)(\.yml|\.txt)?\.[0-9a-z_]+\.part", r"\1", os.path.basename(str(frame.f_locals["part"]))))
        elif frame.f_code.co_name in ("append", "mark_removed", "locked", "begin"):
            places.append(frame.f_code.co_name)
        trace = trace.tb_next
    return places[0] if places else "elsewhere"


def outages(levels: list[int], limit: bool, keep: int | None) -> Figures:
    """Let the disk fill up to each level in turn, and make room again."""
    disk = SizeLimit() if limit else Ballast()
    trouble, places, number = [], Counter[str](), 0
    warned: list[str] = []

    def told(message: Any, *_: Any, **__: Any) -> None:
        warned.append(str(message))
        places[place_of(sys.exc_info()[1])] += 1

    warnings.simplefilter("always")
    warnings.showwarning = told
    model = KAN([2, 2, 1], ckpt_path=FOLDER, keep=keep)
    x = torch.rand(30, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for turn, level in enumerate(levels):
        for _ in range(4):
            number += 1
            mark(model, number)
            model.log_history(f"token{number} {'.' * (number * 700 % 2500)}")
        intact = check_folder()
        warned.clear()
        disk.fill(level)
        begun = model.state_id
        number += (2 * turn >= len(levels)) * (4 - number % 5)  # in the second half the data are others
        for _ in range(3):
            number += 1
            mark(model, number)
            model.log_history(f"token{number} {'.' * 4090}")
        trained = model.copy()
        trained.fit((x, x[:, [0]]), steps=1, progress=False)
        outage = list(warned)
        disk.clear()
        try:
            assert len(outage) == 1 and "checkpoints cannot be written" in outage[0], f"warnings: {outage}"
            assert not torch.equal(trained.numeric_layers[0].coef, model.numeric_layers[0].coef), "no training"
            after = {entry.version for entry in lineage.entries(FOLDER) if not entry.removed}
            kept = {entry for entry in intact if keep is None}
            assert kept <= after, f"lost: {kept - after}"
            number += 1
            mark(model, number)
            model.log_history(f"token{number}")
            assert model.state_id > begun and number_of(KAN.loadckpt(FOLDER)) == number, "saving does not go on"
            assert len(warned) == 1, f"warnings: {warned}"
            assert keep is None or sum(not entry.removed for entry in lineage.entries(FOLDER)) <= keep, "more versions than keep"
            check_folder()
        except Exception:
            trouble.append(f"outage {turn}, level {level}: {traceback.format_exc()[-1500:]}")
    return {"outages": len(levels), "what could not be written": dict(places), "trouble": trouble}


def read_only(mounted: bool) -> Figures:
    """Make the folder read-only, as a mounted file system or by its permissions, and writable again."""

    def set_writable(writable: bool) -> None:
        if mounted:
            # Over it: a file system in which a file is open cannot be made read-only itself.
            commands = (
                [["umount", FOLDER]] if writable else [["mount", "--bind", FOLDER, FOLDER], ["mount", "-o", "remount,bind,ro", FOLDER]]
            )
            for command in commands:
                subprocess.run(command, check=True)
        else:
            os.chmod(FOLDER, 0o755 if writable else 0o555)

    model = KAN([2, 2, 1], ckpt_path=FOLDER)
    mark(model, 1)
    model.log_history("token1")
    trouble, writable = [], False
    x = torch.rand(30, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    set_writable(writable)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trained = model.copy()
            for _ in range(3):
                trained.fit((x, x[:, [0]]), steps=1, progress=False)
        assert not torch.equal(trained.numeric_layers[0].coef, model.numeric_layers[0].coef), "no training"
        assert len(caught) == 1 and "checkpoints cannot be written" in str(caught[0].message), [str(one.message) for one in caught]
        assert check_folder() == {(0, 0): None, (0, 1): 1}
        writable = True
        set_writable(writable)
        mark(model, 2)
        model.log_history("token2")
        assert check_folder() == {(0, 0): None, (0, 1): 1, (0, 2): 2}, "saving does not go on"
    except Exception:
        trouble.append(traceback.format_exc())
    finally:
        if not writable:
            set_writable(True)
    return {"outages": 1, "trouble": trouble}


COMMANDS: dict[str, Callable[..., Figures]] = {
    "kills": kills, "reader": reader, "writers": writers, "outages": outages, "read_only": read_only,
}  # fmt: skip


def run(command: str, folder: Path, *, tmpfs: str | None = None, timeout: float = 600.0, **options: Any) -> Figures:
    """The figures of a command, in a process of its own.

    Args:
        command: a name of `COMMANDS`.
        folder: its working directory, which is made.
        tmpfs: size of a file system to be mounted for the versions, such as ``"200k"``; needs `can_mount`.
        timeout: seconds after which it is ended.
        options: arguments of the function.
    """
    os.makedirs(folder / FOLDER if tmpfs else folder, exist_ok=True)
    words = [sys.executable, "-m", "tests.checkpoint.durability", command, json.dumps(options)]
    if tmpfs:
        words = ["unshare", "-Urm", "sh", "-c", f'mount -t tmpfs -o size={tmpfs} none {FOLDER} && exec "$@"', "sh", *words]
    process = subprocess.Popen(
        words, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True, start_new_session=True
    )  # fmt: skip
    try:
        text, _ = process.communicate(timeout=timeout)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with all that it has started
        process.wait()
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    figures: Figures = json.loads(text.splitlines()[-1])
    return figures


def can_mount() -> bool:
    """Whether a process may mount file systems of its own."""
    probe = ["unshare", "-Urm", "sh", "-c", "mount -t tmpfs -o size=64k none /tmp"]
    with contextlib.suppress(OSError):
        return subprocess.run(probe, capture_output=True).returncode == 0
    return False


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = sys.stdout
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        found = COMMANDS[sys.argv[1]](**json.loads(sys.argv[2]))
    print(json.dumps(found), file=out)
