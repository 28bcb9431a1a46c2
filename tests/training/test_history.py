"""The history is a dictionary of lists that also knows why and when its fit ended."""

import copy
import json
import math
import pickle
from pathlib import Path

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
