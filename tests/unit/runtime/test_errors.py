"""Errors for users: one line, with the advice as a field of its own."""

import pickle

from synaug.runtime.errors import UserError, one_line, short_text


def test_the_advice_follows_the_problem():
    error = UserError("a.parquet: is damaged (page 3; CRC)", advice="delete it")
    assert str(error) == one_line(error) == "a.parquet: is damaged (page 3; CRC); delete it"
    assert (error.problem, error.advice) == ("a.parquet: is damaged (page 3; CRC)", "delete it")


def test_an_error_without_advice_is_the_problem():
    error = UserError("seed: is negative")
    assert (str(error), error.advice) == ("seed: is negative", "")


def test_it_can_be_sent_to_another_process():
    error = pickle.loads(pickle.dumps(UserError("a", advice="b")))
    assert (str(error), error.problem, error.advice) == ("a; b", "a", "b")


def test_other_errors_include_their_type_and_fit_on_one_line():
    error = ValueError("first\n   second " + "x" * 300)
    assert one_line(error).startswith("ValueError: first second x")
    assert short_text(error) == "first second " + "x" * 187
