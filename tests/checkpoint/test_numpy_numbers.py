"""Numbers of numpy in configurations are read as PyYAML writes them; nothing else that has a tag is, and nothing is executed."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kan import KAN
from kan.checkpoint.files import parse_config

HERE = Path(__file__).resolve().parent / "pykan"
FORMATS = ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]


def read(value: Any) -> Any:
    return parse_config(yaml.dump({"a": value}).encode(), "c")[0]["a"]


@given(st.sampled_from(FORMATS), st.binary(min_size=8, max_size=8))
def test_every_number_is_the_plain_one(code: str, content: bytes) -> None:
    dtype = np.dtype(code)
    number = np.bool_(content[0] % 2) if code == "b1" else np.frombuffer(content[: dtype.itemsize], dtype)[0]
    found = read(number)
    assert type(found) is type(number.item()) and (found == number.item() or number != number)


def test_numbers_that_share_their_format_or_are_the_same_are_read_everywhere() -> None:
    one, two = np.int64(1), np.int64(2)
    text = yaml.dump({"a": [one, two, one], "b": (1, 2.5)})
    assert "&id" in text and "!!python/tuple" in text
    assert parse_config(text.encode(), "c")[0] == {"a": [1, 2, 1], "b": [1, 2.5]}


def test_the_name_that_numpy_1_gives_to_its_function_is_known() -> None:
    text = yaml.dump({"a": np.int64(3)}).replace("numpy.core", "numpy._core")  # whatever numpy is installed
    old = text.replace("numpy._core", "numpy.core")
    assert old != text and parse_config(old.encode(), "c")[0] == parse_config(text.encode(), "c")[0] == {"a": 3}
    assert parse_config(text.replace("\n  - <\n", "\n  - '>'\n").encode(), "c")[0] == {"a": 3 << 56}


NUMBER = yaml.dump({"a": np.int64(3)})
HOSTILE = {
    "an object in the format": NUMBER.replace("- i8", "- O"),
    "a text in the format": NUMBER.replace("- i8", "- S8"),
    "a format that is none": NUMBER.replace("- i8", "- {x: i8}"),
    "a format without order": NUMBER.replace("  - <\n", "  - 1\n"),
    "a format without anything": "a: !!python/object/apply:numpy.dtype []\n",
    "another call in the place of the format": NUMBER.replace("apply:numpy.dtype", "apply:os.mkdir"),
    "too few bytes": NUMBER.replace("AwAAAAAAAAA=", "AwA="),
    "bytes that are none": NUMBER.replace("AwAAAAAAAAA=", "...."),
    "no bytes": NUMBER[: NUMBER.index("- !!binary")],
    "no list": "a: !!python/object/apply:numpy.core.multiarray.scalar {x: 1}\n",
    "an array": yaml.dump({"a": np.arange(3)}),
    "a function": "a: !!python/name:os.system ''\n",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="^c is not a readable configuration: "):
        parse_config(text.encode(), "c")


FORMAT = "!!python/object/apply:numpy.dtype" + NUMBER.split("!!python/object/apply:numpy.dtype")[1].split("- !!binary")[0]


@pytest.mark.parametrize("text", [FORMAT, "!!binary AAAA\n"], ids=["format", "bytes"])
def test_bytes_or_a_format_alone_are_no_setting(text: str) -> None:
    config = yaml.safe_load((HERE / "plain_config.yml").read_text())
    del config["grid_eps"]
    for kind in ("state", "cache_data"):
        shutil.copy(HERE / f"plain_{kind}", f"v_{kind}")
    Path("v_config.yml").write_text(f"{yaml.safe_dump(config)}grid_eps: {text}")
    with pytest.raises(ValueError, match="v_config.yml does not describe a KAN: there is a value of the type"):
        KAN.loadckpt("v")
