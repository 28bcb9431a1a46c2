"""The history is a dictionary of lists that also knows why and when its fit ended."""

import copy
import json
import math
import pickle
from pathlib import Path

import numpy as np
import torch

from kan.training.history import History


def history() -> History:
    found = History(["train_loss", "reg"])
    found.append({"train_loss": 0.5, "reg": math.inf})
    found.append({"train_loss": 0.25, "reg": 0.0})
    found.stopped, found.best_step = "patience", 1
    return found


def test_it_is_a_dictionary() -> None:
    assert history() == {"train_loss": [0.5, 0.25], "reg": [math.inf, 0.0]} and len(history()) == 2 and history().steps == 2


def test_copies_keep_everything() -> None:
    for again in (copy.copy(history()), copy.deepcopy(history()), pickle.loads(pickle.dumps(history()))):
        assert type(again) is History and again == history() and again.to_dict() == history().to_dict()


def test_an_interrupted_row_is_dropped() -> None:
    found = history()
    found["train_loss"].append(0.1)
    assert found.trim() == 2 and found == history()


def test_json_is_plain_and_written_whole(tmp_path: Path) -> None:
    file = tmp_path / "history.json"
    file.write_text("old")
    history().to_json(file)
    found = json.loads(file.read_text())
    assert found == {
        "stopped": "patience", "best_step": 1, "restored": False, "seconds": 0.0, "results": {"train_loss": [0.5, 0.25], "reg": [None, 0.0]}
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["history.json"]
    assert {type(value) for values in history().to_dict()["results"].values() for value in values} == {float}


def test_it_shows_itself_as_a_summary() -> None:
    found = history()
    found.seconds = 1.26
    found["accuracy"] = [0.5, 0.75]
    assert str(found) == repr(found) == (
        "2 steps in 1.3 s (patience); lowest train_loss 2.50e-01 after step 2\n"
        "                first       last\n"
        "train_loss   5.00e-01   2.50e-01\n"
        "reg               inf   0.00e+00\n"
        "accuracy     5.00e-01   7.50e-01"
    )
    found.stopped, found.best_step, found.restored = "steps", 0, True
    assert repr(found).splitlines()[0] == "2 steps in 1.3 s; lowest train_loss 5.00e-01 after step 1, which was restored"
    html = found._repr_html_()
    assert "<th>train_loss</th><td>5.00e-01</td><td>2.50e-01</td>" in html and html.count("<tr>") == 4
    assert repr(History(["reg"])) == "0 steps in 0.0 s (running)" == History(["reg"])._repr_html_().split("<table>")[0][5:-6]


def test_what_a_user_puts_into_it_is_shown_too() -> None:
    found = history()
    found["train_loss"] = [np.float64(0.1), np.float64(1 / 3)]
    found.update({"test_loss": 0.5, "remark": "a note", "words": ["first of all", "last"], "none": [], "<b>": [torch.tensor(1.5)]})
    lines = repr(found).splitlines()
    assert lines[2].split() == ["train_loss", "1.00e-01", "3.33e-01"] and lines[4].split() == ["words", "first...", "last"]
    assert lines[5].split() == ["<b>", "1.50e+00", "1.50e+00"] and "&lt;b&gt;" in found._repr_html_() and len(lines) == 6


def test_it_stays_a_dictionary() -> None:
    found = history()
    assert json.loads(json.dumps(found)) == {"train_loss": [0.5, 0.25], "reg": [math.inf, 0.0]}
    assert dict(found) == {**found} == found and dict(found)["train_loss"] == [0.5, 0.25]
    assert list(found) == ["train_loss", "reg"] and str(found.keys()) == "dict_keys(['train_loss', 'reg'])"
    assert (lambda train_loss, reg: reg)(**found) == found["reg"] and found.get("none") is None and "reg" in found
