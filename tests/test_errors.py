"""Messages that several rooms need."""

from hypothesis import given
from hypothesis import strategies as st

from kan.errors import NoDataError, some_of, unknown_name

OPTIMISERS = ["Adam", "LBFGS"]


def test_nearest_name_is_suggested() -> None:
    assert (
        str(unknown_name("optimiser", "LBGFS", OPTIMISERS))
        == "unknown optimiser 'LBGFS'; did you mean 'LBFGS'? Valid are: 'Adam', 'LBFGS'."
    )


def test_case_does_not_matter() -> None:
    assert "did you mean 'Adam'?" in str(unknown_name("optimiser", "adam", OPTIMISERS))
    assert "did you mean 'LBFGS'?" in str(unknown_name("optimiser", "lbfgs", OPTIMISERS))


def test_several_near_names() -> None:
    text = str(unknown_name("metric", "forward_x", ["forward_n", "forward_u", "backward"]))
    assert text.startswith("unknown metric 'forward_x'; did you mean 'forward_u' or 'forward_n'") or text.startswith(
        "unknown metric 'forward_x'; did you mean 'forward_n' or 'forward_u'"
    )


def test_nothing_near() -> None:
    assert str(unknown_name("optimiser", "qqq", OPTIMISERS)) == "unknown optimiser 'qqq'. Valid are: 'Adam', 'LBFGS'."


def test_what_is_no_string() -> None:
    assert str(unknown_name("optimiser", None, OPTIMISERS)).startswith("unknown optimiser None")
    assert str(unknown_name("optimiser", 3, iter(OPTIMISERS))) == "unknown optimiser 3. Valid are: 'Adam', 'LBFGS'."


@given(name=st.text(), valid=st.lists(st.text(min_size=1), min_size=1, unique=True))
def test_every_valid_name_is_listed(name: str, valid: list[str]) -> None:
    error = unknown_name("thing", name, valid)
    assert isinstance(error, ValueError)
    assert all(repr(candidate) in str(error) for candidate in valid) and repr(name) in str(error)


def test_the_first_few_of_many() -> None:
    assert some_of([]) == "" and some_of([1, 2]) == "1, 2" and some_of([*range(5)]) == "0, 1, 2, 3, 4"
    assert some_of([*range(1000)]) == "0, 1, 2, 3, 4 and 995 more" and some_of("abc", 1) == "a and 2 more"


def test_missing_data_are_a_wrong_value_and_a_missing_attribute() -> None:
    assert issubclass(NoDataError, ValueError) and issubclass(NoDataError, AttributeError)
