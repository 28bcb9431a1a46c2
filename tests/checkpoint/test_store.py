"""Versions: the lines printed, the files written, the history, the way back, and a folder that cannot be written."""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kan import KAN
from kan.checkpoint import format as files
from kan.checkpoint import lineage, lock
from kan.checkpoint.lock import Presence
from kan.checkpoint.store import newest, version_of

pytestmark = pytest.mark.usefixtures("float64")

Dataset = dict[str, Tensor]


def dataset(samples: int = 60) -> Dataset:
    x = torch.rand(samples, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    y = torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2)
    return {"train_input": x, "train_label": y, "test_input": x, "test_label": y}


def fit(model: KAN, steps: int = 1) -> None:
    model.fit(dataset(), steps=steps, log=-1)


def saved(folder: str = "model") -> set[str]:
    """The versions whose three files are there; nothing else may be, but the state of the optimiser after a fit."""
    names = {path.name for path in Path(folder).iterdir() if not path.name.startswith((".lock", ".writer-"))} - {"history.txt"}
    versions = {name.split("_", 1)[0] for name in names}
    names -= {f"{version}_optimizer" for version in versions}
    assert names == {f"{version}_{kind}" for version in versions for kind in ("config.yml", "state", "cache_data")}
    return versions


def history(folder: str = "model") -> list[str]:
    return Path(folder, "history.txt").read_text().splitlines()


def out(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def same(one: KAN, other: KAN) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.filterwarnings("ignore:prune. edges whose scores:UserWarning")
def test_the_flow_of_versions(capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 5, 1], seed=1)
    assert out(capsys) == ["checkpoint directory created: ./model", "saving model version 0.0"]
    fit(model, 2)
    assert out(capsys) == ["saving model version 0.1"]
    fitted = copy.deepcopy(model)
    model = model.prune()
    assert out(capsys) == ["saving model version 0.2"]
    assert saved() == {"0.0", "0.1", "0.2"}
    pruned = copy.deepcopy(model)

    model = model.rewind("0.1")
    assert out(capsys) == ["rewind to model version 0.1, renamed as 1.1"]
    assert same(model, fitted) and torch.equal(model.last_input, dataset()["train_input"])  # type: ignore[arg-type]
    fit(model)
    assert out(capsys) == ["saving model version 1.2"]
    assert saved() == {"0.0", "0.1", "0.2", "1.1", "1.2"}
    assert history() == [
        "### Round 0 ###", "init => 0.0", "0.0 => fit => 0.1", "0.1 => prune => 0.2", "### Round 1 ###", "0.1 => rewind => 1.1",
        "1.1 => fit => 1.2",
    ]  # fmt: skip

    assert same(KAN.loadckpt("model/0.1"), fitted) and same(KAN.loadckpt("model/1.1"), fitted)
    assert same(KAN.loadckpt("model/0.2"), pruned) and same(KAN.loadckpt("model/1.2"), model)
    again = model.rewind("0.1")
    assert out(capsys) == ["rewind to model version 0.1, renamed as 2.1"]
    assert (again.round, again.state_id) == (2, 1) and (model.round, model.state_id) == (1, 2)


def test_rewinding_to_a_later_round_and_state(capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 2, 1])
    for _ in range(4):
        model.log_history("fit")
    model = model.rewind("0.4")
    fit(model)
    assert out(capsys)[-2:] == ["rewind to model version 0.4, renamed as 1.4", "saving model version 1.5"]
    model = model.rewind("1.5")
    assert out(capsys) == ["rewind to model version 1.5, renamed as 2.5"]
    fit(model)
    assert out(capsys) == ["saving model version 2.6"]


def test_rewind_leaves_the_model_alone_and_usable(capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 2, 1])
    fit(model)
    before = copy.deepcopy(model)
    model.rewind("0.0")
    assert same(model, before) and (model.round, model.state_id) == (0, 1)
    out(capsys)
    fit(model)
    assert out(capsys) == ["saving model version 0.2"]


METHODS: list[tuple[str, Callable[[KAN], Any]]] = [
    ("fit", fit),
    ("fix_symbolic", lambda model: model.fix_symbolic(0, 0, 0, "sin")),
    ("unfix_symbolic", lambda model: model.unfix_symbolic(0, 0, 0)),
    ("auto_symbolic", lambda model: model.auto_symbolic(lib=["x"])),
    ("refine", lambda model: model.refine(6)),
    ("prune", lambda model: model.prune(0.0, 0.0)),
    ("prune_node", lambda model: model.prune_node(0.0)),
    ("prune_edge", lambda model: model.prune_edge(0.0)),
    ("remove_edge", lambda model: model.remove_edge(0, 0, 0)),
    ("remove_node", lambda model: model.remove_node(1, 0)),
]


@pytest.mark.parametrize(("name", "call"), METHODS, ids=[name for name, _ in METHODS])
def test_every_change_is_one_version_of_the_result(name: str, call: Callable[[KAN], Any], capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 3, 1])
    model(dataset()["train_input"])
    out(capsys)
    returned = call(model)
    assert [line for line in out(capsys) if line.startswith("saving")] == ["saving model version 0.1"]
    assert history()[-1] == f"0.0 => {name} => 0.1"
    result = returned if isinstance(returned, KAN) else model
    loaded = KAN.loadckpt("model/0.1")
    assert same(loaded, result) and loaded.width == result.width and loaded.grid == result.grid
    assert [layer.funs_name for layer in loaded.symbolic_fun] == [layer.funs_name for layer in result.symbolic_fun]
    assert result.state_id == 1 and (result is model or model.state_id == 0)


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.fix_symbolic(0, 0, 0, "sin", verbose=False, log_history=False),
        lambda model: model.unfix_symbolic(0, 0, 0, log_history=False),
        lambda model: model.prune_node(0.0, log_history=False),
        lambda model: model.prune_edge(0.0, log_history=False),
        lambda model: model.remove_edge(0, 0, 0, log_history=False),
        lambda model: model.remove_node(1, 0, log_history=False),
        lambda model: model.set_mode(0, 0, 0, "s"),
        lambda model: model.suggest_symbolic(0, 0, 0, lib=["x"], verbose=False),
        lambda model: model.copy(),
        lambda model: model(dataset()["train_input"]),
    ],
)
def test_no_version_where_none_is_wanted(call: Callable[[KAN], Any], capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 3, 1])
    model(dataset()["train_input"])
    out(capsys)
    call(model)
    assert out(capsys) == [] and saved() == {"0.0"}


def test_a_refused_change_is_no_version() -> None:
    model = KAN([2, 3, 1])
    model(dataset()["train_input"])
    for call in (lambda: model.prune(100.0), lambda: model.fix_symbolic(0, 0, 0, "sine"), lambda: model.refine(0), lambda: model.fit({})):
        with pytest.raises(ValueError):
            call()
    assert saved() == {"0.0"} and history() == ["### Round 0 ###", "init => 0.0"]


def test_two_children_of_one_model_get_versions_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 3, 1])
    model(dataset()["train_input"])
    first, second = model.prune(0.0, 0.0), model.prune(0.0, 0.03)
    third = model.refine(6)
    copied = model.copy()
    fit(copied)
    assert out(capsys)[2:] == [f"saving model version 0.{n}" for n in (1, 2, 3, 4)]
    assert history()[2:] == ["0.0 => prune => 0.1", "0.0 => prune => 0.2", "0.0 => refine => 0.3", "0.0 => fit => 0.4"]
    for version, child in (("0.1", first), ("0.2", second), ("0.3", third), ("0.4", copied)):
        assert same(KAN.loadckpt(f"model/{version}"), child)


def test_a_loaded_model_goes_on_in_the_next_round(capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 2, 1])
    fit(model)
    loaded = KAN.loadckpt("model/0.1")
    assert (loaded.round, loaded.state_id) == (1, 1)
    out(capsys)
    fit(loaded)
    other = model.checkout("0.1")
    fit(other)
    assert out(capsys) == ["saving model version 1.2", "saving model version 1.3"]
    assert history()[-2:] == ["0.1 => fit => 1.2", "0.1 => fit => 1.3"]
    assert same(KAN.loadckpt("model/1.2"), loaded) and same(KAN.loadckpt("model/1.3"), other)


def test_rewinding_in_a_new_session_finds_a_free_round(capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 2, 1])
    fit(model)
    model.rewind("0.1")
    out(capsys)
    KAN.loadckpt("model/0.1").rewind("0.0")
    assert out(capsys) == ["rewind to model version 0.0, renamed as 2.0"]


def test_custom_base_function_survives_a_rewind() -> None:
    model = KAN([2, 2, 1], base_fun=torch.tanh)
    fit(model)
    back = model.rewind("0.1")
    assert back.base_fun is torch.tanh and same(back, model)


def test_another_folder(capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 2, 1], ckpt_path="runs/one")
    fit(model)
    assert out(capsys) == ["checkpoint directory created: runs/one", "saving model version 0.0", "saving model version 0.1"]
    assert saved("runs/one") == {"0.0", "0.1"} and not Path("model").exists()
    assert same(model.checkout("0.1"), model)
    one, two = KAN([2, 1], ckpt_path=Path("runs", "two")), KAN([2, 1], ckpt_path="runs/three")
    fit(one)
    assert saved("runs/two") == {"0.0", "0.1"} and saved("runs/three") == {"0.0"} and two.state_id == 0


def test_a_new_model_starts_the_history_anew() -> None:
    fit(KAN([2, 2, 1]))
    KAN([2, 1])
    assert history() == ["### Round 0 ###", "init => 0.0"]


def test_printed_history(capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 2, 1])
    fit(model)
    out(capsys)
    model.history()
    assert out(capsys) == ["### Round 0 ###", "init => 0.0", "0.0 => fit => 0.1"]
    model.history(k=2)
    assert out(capsys) == ["init => 0.0", "0.0 => fit => 0.1"]
    with pytest.raises(FileNotFoundError, match="there is no history: .*no version has been saved"):
        KAN([2, 1], auto_save=False, ckpt_path="nowhere").history()


@pytest.mark.parametrize("model_id", ["1", "0.1.2", "a.b", "", "0.-1", "latest"])
def test_what_is_no_version(model_id: str) -> None:
    with pytest.raises(ValueError, match="a model version is written round.state, such as '0.1'; got "):
        KAN([2, 1]).rewind(model_id)


def test_a_version_that_does_not_exist() -> None:
    model = KAN([2, 1])
    for call in (model.rewind, model.checkout):
        with pytest.raises(FileNotFoundError, match="there is no checkpoint '.*0.7': "):
            call("0.7")
    assert history() == ["### Round 0 ###", "init => 0.0"]


def test_versions_are_numbers() -> None:
    assert version_of("10.12") == (10, 12)


# Nothing written


def test_without_auto_save_nothing_is_written_or_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 3, 1], auto_save=False)
    fit(model)
    model = model.prune(0.0, 0.0)
    model = model.refine(6)
    fit(model)
    model.fix_symbolic(0, 0, 0, "sin", verbose=False)
    model.unfix_symbolic(0, 0, 0)
    model.remove_edge(0, 0, 0)
    model.auto_symbolic(lib=["x"], verbose=0)
    model.log_history("anything")
    model.copy()
    assert not model.auto_save
    assert [line for line in out(capsys) if not line.startswith("fixing (")] == []
    assert list(tmp_path.iterdir()) == []


def test_rewinding_without_auto_save_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 3, 1], auto_save=False)
    model.saveckpt("model/0.1")
    before = sorted(tmp_path.rglob("*"))
    back = model.rewind("0.1")
    fit(back)
    assert same(KAN.loadckpt("model/0.1"), model)
    assert sorted(tmp_path.rglob("*")) == before and out(capsys) == []


def test_not_the_first_version_is_not_saved_at_birth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 1], first_init=False, state_id=4, round=2)
    assert list(tmp_path.iterdir()) == [] and out(capsys) == []
    model.log_history("fit")
    assert out(capsys) == ["saving model version 2.5"]


# A folder that cannot be written


def whole_story(ckpt_path: str) -> tuple[KAN, list[str]]:
    """Construct, fit, prune, refine, rewind, with the texts of all warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = KAN([2, 3, 1], ckpt_path=ckpt_path)
        start = float((model(dataset()["train_input"]) - dataset()["train_label"]).square().mean().sqrt().detach())
        losses = model.fit(dataset(), steps=2, log=-1)["train_loss"]
        pruned = model.prune(0.0, 0.0)
        refined = pruned.refine(6)
        refined.fit(dataset(), steps=1, log=-1)
        refined.fix_symbolic(0, 0, 0, "sin", verbose=False)
        refined.copy().log_history("fit")
    assert losses[-1] < start
    return refined, [str(warning.message) for warning in caught]


def test_a_folder_that_cannot_be_made(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("in the way")
    model, texts = whole_story("file/model")
    assert len(texts) == 1
    assert texts[0].startswith("checkpoints cannot be written to 'file/model' (")
    assert texts[0].endswith("training goes on without saving. Choose another ckpt_path, or auto_save=False to do without.")
    assert out(capsys) == [] and Path("file").read_text() == "in the way"
    assert (model.round, model.state_id) == (0, 0)  # nothing was saved


@pytest.mark.parametrize("call", [fit, lambda model: model.prune(0.0, 0.0), lambda model: model.log_history("mine")])
def test_the_warning_points_to_the_caller(call: Callable[[KAN], Any]) -> None:
    Path("file").write_text("in the way")
    with pytest.warns(UserWarning, match="checkpoints cannot be written") as caught:
        model = KAN([2, 2, 1], ckpt_path="file/model")
    assert [warning.filename for warning in caught] == [__file__]
    model = KAN([2, 2, 1], first_init=False, ckpt_path="file/model")
    model(dataset()["train_input"])
    with pytest.warns(UserWarning, match="checkpoints cannot be written") as caught:
        call(model)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("broken_from", [0, 1, 2])
def test_a_disk_that_fails_later(broken_from: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls = 0
    save = files.save

    def failing(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > broken_from:
            raise OSError(28, "No space left on device")
        return save(*arguments, **options)

    monkeypatch.setattr("kan.checkpoint.store.save", failing)
    _, texts = whole_story("model")
    assert len(texts) == 1 and "No space left on device" in texts[0]
    assert saved() == {f"0.{n}" for n in range(broken_from)}
    assert [line for line in out(capsys) if line.startswith("saving")] == [f"saving model version 0.{n}" for n in range(broken_from)]


def test_saving_by_hand_says_what_is_wrong() -> None:
    Path("file").write_text("in the way")
    with pytest.raises(OSError):
        KAN([2, 1], auto_save=False).saveckpt("file/model/v")


# The store itself


def test_a_store_of_an_existing_folder_knows_its_versions() -> None:
    model = KAN([2, 2, 1])
    fit(model)
    model.rewind("0.0")
    assert [entry.version for entry in lineage.entries("model")] == [(0, 0), (0, 1), (1, 0)]
    assert lineage.entries("nowhere") == []


def test_copies_share_the_store() -> None:
    model = KAN([2, 2, 1])
    assert copy.deepcopy(model).store is model.store


def test_a_model_without_some_inputs_is_saved_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 3, 1])
    x = dataset()["train_input"]
    model(x)
    out(capsys)
    smaller = model.prune_input(active_inputs=[1])
    assert out(capsys) == ["keep: [False, True]", "saving model version 0.1"]
    loaded = KAN.loadckpt("model/0.1")
    assert same(loaded, smaller) and loaded.width == [[1, 0], [3, 0], [1, 0]] and loaded.input_id.tolist() == [1]
    assert torch.equal(loaded(x), smaller(x))


@pytest.mark.parametrize("opt", ["LBFGS", "Adam", "LM"])
def test_a_fit_is_resumed_from_a_checkpoint(opt: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = torch.rand(40, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    data, options = (x, x[:, [0]] ** 2), {"opt": opt, "lr": 1.0 if opt != "Adam" else 0.01, "update_grid": False, "progress": False}
    model = KAN([2, 2, 1], ckpt_path=tmp_path)
    model.fit(data, steps=3, **options)
    loaded = KAN.loadckpt(tmp_path / "0.1")
    losses = [one.fit(data, steps=3, resume=True, **options)["train_loss"] for one in (model, loaded)]
    assert losses[0] == losses[1]
    # What stood under a name before is not taken for the state of what stands there now.
    again = KAN([2, 2, 1], ckpt_path=tmp_path)
    again(x)
    again.prune_edge(0.0)
    assert not (tmp_path / "0.1_optimizer").exists() and KAN.loadckpt(tmp_path / "0.1").optimizer_state is None


# Several processes, moved folders


def another(folder: str = "model") -> Presence:
    """As another process is seen that saves versions in a folder."""
    presence = Presence(folder)
    lock._own.clear()
    return presence


def test_a_new_model_beside_another_process_starts_a_round(capsys: pytest.CaptureFixture[str]) -> None:
    fit(KAN([2, 2, 1]))
    presence = another()
    with pytest.warns(UserWarning, match="another process saves versions in './model'; those of this model begin with 1.0"):
        model = KAN([2, 3, 1])
    fit(model)
    assert history() == ["### Round 0 ###", "init => 0.0", "0.0 => fit => 0.1", "### Round 1 ###", "init => 1.0", "1.0 => fit => 1.1"]
    assert same(KAN.loadckpt("model/1.1"), model) and KAN.loadckpt("model/0.1").width_in == [2, 2, 1]
    presence.leave()
    KAN([2, 1])
    assert history() == ["### Round 0 ###", "init => 0.0"]


def test_a_version_that_another_process_has_taken(capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 2, 1])
    presence = another()
    other = KAN.loadckpt("model/0.0")
    other.round = 0
    other.log_history("other")
    assert lineage.entries("model")[-1].version == (0, 1)
    with pytest.warns(UserWarning, match="another process has taken the next version in './model'; this one is saved as 0.2"):
        model.log_history("mine")
    assert history()[2:] == ["0.0 => other => 0.1", "0.0 => mine => 0.2"]
    presence.leave()


def test_a_locked_folder_costs_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    model = KAN([2, 2, 1])
    monkeypatch.setattr("kan.checkpoint.store.PATIENCE", 0.05)
    with (
        lock.locked("model", 1),
        pytest.warns(
            UserWarning, match="checkpoints cannot be written to './model' .another process has been writing to './model' for 0.05"
        ),
    ):
        model.log_history("mine")
    assert (model.round, model.state_id) == (0, 0) and saved() == {"0.0"}
    model.log_history("mine")
    assert saved() == {"0.0", "0.1"}


def test_a_folder_that_was_moved_goes_on_where_it_is() -> None:
    fit(KAN([2, 2, 1], ckpt_path="before"))
    Path("before").rename("after")
    loaded = KAN.loadckpt("after/0.1")
    assert loaded.ckpt_path == "after"
    fit(loaded)
    assert saved("after") == {"0.0", "0.1", "1.2"} and not Path("before").exists()


def test_the_folder_may_be_set() -> None:
    first = KAN([2, 2, 1], ckpt_path="one", keep=5)
    twin = first.copy()
    first.ckpt_path = Path("other")  # type: ignore[assignment]
    fit(first)
    smaller = first.refine(5)
    fit(smaller)
    assert first.ckpt_path == smaller.ckpt_path == twin.replace(ckpt_path="other").ckpt_path == "other" and smaller.store.keep == 5
    assert saved("other") == {"0.1", "0.2", "0.3"} and saved("one") == {"0.0"}
    fit(twin)
    assert twin.ckpt_path == "one" and saved("one") == {"0.0", "0.1"}
    assert same(smaller.checkout("0.1"), first) and KAN.loadckpt("other").ckpt_path == "other"


def test_where_the_versions_of_a_loaded_model_go_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    fit(KAN([2, 2, 1], ckpt_path="there"))
    out(capsys)
    loaded = KAN.loadckpt("there/0.1")
    assert out(capsys) == []
    loaded = loaded.refine(5)
    fit(loaded)
    assert out(capsys) == ["checkpoint directory: there", "saving model version 1.2", "saving model version 1.3"]
    fit(KAN.loadckpt("there/0.1", ckpt_path="mine"))
    loaded.checkout("0.1").refine(5)
    assert out(capsys) == ["saving model version 1.2", "saving model version 1.4"]


def test_a_folder_outside_is_refused(tmp_path: Path) -> None:
    Path("work").mkdir()
    model = KAN([2, 2, 1], first_init=False, ckpt_path=tmp_path / "elsewhere")
    model.saveckpt("work/mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("work")
        with pytest.raises(
            ValueError, match=r"mine_config.yml would have the model's versions saved in '.*elsewhere', which is neither .*ckpt_path="
        ):
            KAN.loadckpt("mine")
        assert KAN.loadckpt("mine", ckpt_path="here").ckpt_path == "here"
        model.log_history("fit")  # now there are versions
        assert KAN.loadckpt("mine").ckpt_path == str(tmp_path / "elsewhere")


def test_the_newest_version_of_a_folder() -> None:
    model = KAN([2, 2, 1])
    fit(model)
    model.rewind("0.0")
    loaded = KAN.loadckpt("model")
    assert (loaded.round, loaded.state_id) == (2, 0) and newest("model") == str(Path("model", "1.0"))
    assert newest("nowhere") is None
    with pytest.raises(FileNotFoundError, match="there is no checkpoint 'nowhere'"):
        KAN.loadckpt("nowhere")


# Economy


def test_only_the_last_versions_are_kept() -> None:
    fit(KAN([2, 2, 1]))
    KAN.loadckpt("model/0.1").log_history("of another run")
    model = KAN.loadckpt("model/1.2")
    model.store.keep = 2
    for _ in range(3):
        fit(model)
    assert saved() == {"0.0", "0.1", "1.2", "2.4", "2.5"}
    assert history()[-3:] == ["1.2 => fit => 2.3 (removed)", "2.3 => fit => 2.4", "2.4 => fit => 2.5"]
    with pytest.raises(FileNotFoundError, match=r"the version 2.3 has been removed, as keep=2 versions stay: see history\(\)"):
        model.rewind("2.3")
    rewound = model.rewind("2.4")
    assert saved() == {"0.0", "0.1", "1.2", "2.5", "3.4"} and rewound.store.keep == 2
    assert KAN.loadckpt("model/3.4").store.keep == 2 and rewound.prune(0.0, 0.0).store.keep == 2


@pytest.mark.parametrize("keep", [0, -1, 1.5, True, "2"])
def test_what_cannot_be_kept(keep: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"keep, the number of versions that stay, must be an integer of at least 1.*got {keep!r}"):
        KAN([2, 1], keep=keep)
    assert list(tmp_path.iterdir()) == []


def test_data_stay_out_of_the_files() -> None:
    model = KAN([2, 2, 1], save_data=False)
    secret = torch.full((1000, 2), 0.123456789)
    model.fit((secret + dataset(1000)["train_input"], secret[:, :1]), opt="Adam", lr=0.1, steps=2, update_grid=False, progress=False)
    assert all(path.stat().st_size < 16_000 for path in Path("model").iterdir())
    assert torch.load("model/0.1_cache_data", weights_only=True) is None
    loaded = KAN.loadckpt("model/0.1")
    for needs in (loaded.plot, loaded.attribute, loaded.prune, loaded.auto_symbolic, loaded.get_act, loaded.auto_swap):
        with pytest.raises(ValueError, match="the model has no data: .*with save_data=False a checkpoint holds none. Call model"):
            needs()
    assert not loaded.store.save_data
    model.saveckpt("mine")
    assert torch.load("mine_cache_data", weights_only=True) is None


@pytest.mark.skipif(not hasattr(Path, "hardlink_to"), reason="no hard links")
def test_the_same_data_are_written_once() -> None:
    model = KAN([2, 2, 1])
    x = dataset()["train_input"].clone()
    model(x)
    model.log_history("one")
    model.log_history("two")
    inode = [Path(f"model/0.{n}_cache_data").stat().st_ino for n in (1, 2)]
    assert inode[0] == inode[1]
    x.numpy()[0] += 1  # behind torch's back
    model.log_history("three")
    loaded = [KAN.loadckpt(f"model/0.{n}").last_input for n in (2, 3)]
    assert loaded[0] is not None and loaded[1] is not None
    assert torch.equal(loaded[0], dataset()["train_input"]) and torch.equal(loaded[1], x)


def test_saving_is_tried_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 2, 1])

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    for outage in (1, 2):
        with monkeypatch.context() as patch:
            patch.setattr("kan.checkpoint.store.save", full)
            with pytest.warns(UserWarning, match="No space left on device") as caught:
                for _ in range(3):
                    fit(model)
            assert len(caught) == 1 and model.state_id == outage - 1
        fit(model)
        assert model.state_id == outage and same(KAN.loadckpt(f"model/0.{outage}"), model)
    assert history() == ["### Round 0 ###", "init => 0.0", "0.0 => fit => 0.1", "0.1 => fit => 0.2"]


def test_functions_without_a_name_come_back_while_the_process_lives() -> None:
    model = KAN([2, 2, 1])
    model.fix_symbolic(0, 0, 1, torch.sinc)
    model.fix_symbolic(0, 1, 1, torch.erf)
    before = copy.deepcopy(model)
    model.unfix_symbolic(0, 0, 1)
    back = model.rewind("0.2")
    x = dataset()["train_input"]
    assert torch.equal(back(x), before(x))


def test_the_printed_tree(capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 2, 1])
    fit(model)
    model.rewind("0.0")
    out(capsys)
    model.history(tree=True)
    assert out(capsys) == ["0.0 init", "├── 0.1 fit", "└── 1.0 rewind"]
