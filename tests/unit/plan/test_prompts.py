"""Prompts of every class, and the errors for tables that cannot be used."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synaug.config import Prompts
from synaug.plan.prompts import GENERAL, cell_prompts, prompt_files
from synaug.runtime.errors import UserError

CLASSES = ["cat", "dog", "007"]


@pytest.fixture
def table(tmp_path):
    """A function: rows (label, text) to a table with the columns label and `column`, as CSV or Parquet."""

    def table(rows, column="prompt", kind="csv") -> str:
        frame = pd.DataFrame(rows, columns=["label", column])
        path = tmp_path / f"texts.{kind}"
        frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
        return str(path)

    return table


def class_prompts(prompts: Prompts, classes: list[str]) -> dict[str, list[str]]:
    """Class -> its prompts, in a data set without groups."""
    return dict(zip(classes, cell_prompts(prompts, pd.DataFrame({"label_name": classes})), strict=True))


def complaint(prompts: Prompts, classes=CLASSES) -> str:
    with pytest.raises(UserError) as caught:
        class_prompts(prompts, classes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_templates_alone_are_the_prompts_in_their_order():
    prompts = class_prompts(Prompts(templates=["a {label}", "one {label}, {label}"]), CLASSES)
    assert prompts["dog"] == ["a dog", "one dog, dog"]


@pytest.mark.parametrize(("templates", "modifiers"), [(1, 5), (2, 4), (3, 3), (4, 6), (5, 20), (3, 1)])
def test_every_pair_occurs_once_and_short_prefixes_vary_in_both(templates, modifiers):
    forms = [f"{i} {{label}} {{modifier}}" for i in range(templates)]
    prompts = class_prompts(Prompts(templates=forms, modifiers=[f"m{i}" for i in range(modifiers)]), ["cat"])["cat"]
    assert len(prompts) == len(set(prompts)) == templates * modifiers
    for length in range(1, min(templates, modifiers) + 1):
        assert len({prompt.split()[0] for prompt in prompts[:length]}) == length
        assert len({prompt.split()[2] for prompt in prompts[:length]}) == length


def test_a_template_without_modifier_keeps_its_share():
    prompts = class_prompts(Prompts(templates=["a {label}", "a {modifier} {label}"], modifiers=["big", "red"]), ["cat"])
    assert prompts["cat"] == ["a cat", "a red cat", "a cat", "a big cat"]


def test_general_modifiers_are_twenty_different_ones():
    prompts = class_prompts(Prompts(templates=["a photo of a {label}, {modifier}"], modifiers="general"), CLASSES)
    assert len(set(GENERAL)) == 20
    assert prompts["cat"] == [f"a photo of a cat, {modifier}" for modifier in GENERAL]
    assert prompt_files(Prompts(templates=["{label} {modifier}"], modifiers="general")) == []


@pytest.mark.parametrize("kind", ["csv", "parquet", "block"])
def test_modifiers_per_class(table, kind):
    chosen = {"cat": ["striped", "black"], "dog": ["wet"], "007": ["secret"]}
    rows = [(name, word) for name, words in chosen.items() for word in words]
    modifiers = chosen if kind == "block" else table(rows, "modifier", kind)
    prompts = class_prompts(Prompts(templates=["{modifier} {label}"], modifiers=modifiers), CLASSES)
    assert prompts == {"cat": ["striped cat", "black cat"], "dog": ["wet dog"], "007": ["secret 007"]}


@pytest.mark.parametrize("name", [r"{modifier}", r"{label}", r"\1 \g<0>", "{}", "{0}", "50 %s", "Stövel <b>", 'a "b"'])
def test_class_names_are_text_and_nothing_in_them_is_replaced(name):
    prompts = class_prompts(Prompts(templates=["a {label}, {modifier}"], modifiers=[r"{label}\1"]), [name])
    assert prompts == {name: [rf"a {name}, {{label}}\1"]}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_prompts_of_a_table_replace_the_templates_of_the_classes_that_it_names(table, kind):
    file = table([("dog", "a dog, asleep"), ("007", "Bond {label}"), ("dog", "puppy")], kind=kind)
    prompts = Prompts(templates=["a {label}"], names={"cat": "kitten"}, file=file)
    assert class_prompts(prompts, CLASSES) == {
        "cat": ["a kitten"], "dog": ["a dog, asleep", "puppy"], "007": ["Bond {label}"],
    }  # fmt: skip
    assert prompt_files(prompts) == [file]


def test_a_class_with_prompts_of_its_own_needs_no_modifiers(table):
    prompts = Prompts(
        templates=["{modifier} {label}"], modifiers={"cat": ["big"], "007": ["old"]}, file=table([("dog", "a puppy")])
    )
    assert class_prompts(prompts, CLASSES)["dog"] == ["a puppy"]


def test_labels_that_are_numbers_in_parquet_are_class_names(tmp_path):
    pq.write_table(pa.table({"label": [7], "prompt": ["seven"]}), tmp_path / "t.parquet")
    assert class_prompts(Prompts(file=str(tmp_path / "t.parquet")), ["7"]) == {"7": ["seven"]}


def test_a_csv_from_a_spreadsheet_with_a_byte_order_mark(tmp_path):
    (tmp_path / "t.csv").write_text("label,prompt\r\ncat,Kätzchen\r\n", encoding="utf-8-sig", newline="")
    assert class_prompts(Prompts(file=str(tmp_path / "t.csv")), ["cat"]) == {"cat": ["Kätzchen"]}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("cat", "a cat"), ("dgo", "a dog")], ["row 2", "'dgo'", "did you mean 'dog'"]),
        ([("zebra", "a zebra")], ["row 1", "'zebra'", "cat, dog, 007"]),
        ([("cat", "a cat"), ("dog", "  ")], ["row 2", "'dog'", "empty prompt"]),
        ([("cat", None)], ["row 1", "'cat'", "empty prompt"]),
        ([], ["no rows"]),
    ],
)
def test_a_faulty_row_of_a_prompt_table_is_named(table, rows, words, kind):
    file = table(rows, kind=kind)
    message = complaint(Prompts(file=file))
    for word in ["prompts.file", file, *words]:
        assert word in message


def test_a_comma_without_quotes_is_an_error(tmp_path):
    (tmp_path / "t.csv").write_text("label,prompt\ncat,a cat, asleep\n")
    message = complaint(Prompts(file=str(tmp_path / "t.csv")))
    assert "row 1" in message
    assert "quotes" in message


def test_a_table_without_the_column_and_a_file_that_is_no_table(table, tmp_path):
    file = table([("cat", "x")], column="text")
    message = complaint(Prompts(file=file))
    assert file in message
    assert "has no column 'prompt' (its columns: label, text); add or rename it" in message
    (tmp_path / "t.parquet").write_text("not Parquet")
    assert "cannot be read" in complaint(Prompts(file=str(tmp_path / "t.parquet")))
    (tmp_path / "t.csv").write_bytes("label,prompt\ncat,Kätzchen\n".encode("latin-1"))
    assert "t.csv: is not UTF-8 text; save it as UTF-8" in complaint(Prompts(file=str(tmp_path / "t.csv")))
    (tmp_path / "t.csv").write_text("")
    assert "its columns: none" in complaint(Prompts(file=str(tmp_path / "t.csv")))
    (tmp_path / "t.csv").write_text("label,prompt,prompt\ncat,x,y\n")
    assert "has 2 columns 'prompt'; rename all but one" in complaint(Prompts(file=str(tmp_path / "t.csv")))


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_table_with_the_separators_of_a_european_spreadsheet_is_named(tmp_path, separator):
    (tmp_path / "n.csv").write_text(f"label{separator}name\ncat{separator}a cat, asleep\n")
    message = complaint(Prompts(names=str(tmp_path / "n.csv")))
    assert "prompts.names: " in message
    assert f"n.csv: its columns are separated by {separator!r}; save it with commas" in message


def test_a_class_without_modifiers_is_named(table):
    def prompts(modifiers):
        return Prompts(templates=["{modifier} {label}"], modifiers=modifiers)

    file = table([("cat", "big")], "modifier")
    for modifiers, where in (({"cat": ["big"]}, "prompts.modifiers:"), (file, file)):
        message = complaint(prompts(modifiers))
        assert where in message
        assert "class 'dog' (and 1 other classes) has no modifiers" in message
    assert "'bat'" in complaint(prompts({"bat": ["big"]}))
    assert "row 1" in complaint(prompts(table([("dog", "")], "modifier")))


@pytest.mark.parametrize(
    ("modifiers", "message"),
    [
        ([], "must not be empty"),
        ({}, "must not be empty"),
        ({"cat": []}, "must not be empty"),
        (["red", " "], "a template without {modifier}"),
        ({"cat": [""]}, "a template without {modifier}"),
        ("", "a template without {modifier}"),
        (5, "a list of texts"),
        ({"cat": "red"}, "a list of texts"),
        (["red", 5], "a list of texts"),
        ({7: ["red"]}, "write '7', with the quotes"),
    ],
)
def test_modifiers_that_cannot_be_used_are_refused_with_the_config(modifiers, message):
    with pytest.raises(ValueError, match=message) as caught:
        Prompts(templates=["{modifier} {label}"], modifiers=modifiers)
    assert len(caught.value.errors()) == 1


def test_a_class_that_is_a_number_needs_quotes_in_names():
    with pytest.raises(ValueError, match="write '0', with the quotes"):
        Prompts(names={0: "zero"})


@pytest.mark.parametrize(
    "settings", [{"file": "nowhere.csv"}, {"templates": ["{modifier} {label}"], "modifiers": "genral"}]
)
def test_a_missing_table(settings):
    with pytest.raises(UserError, match=r"prompts\.(file: nowhere\.csv|modifiers: genral): no such file"):
        prompt_files(Prompts(**settings))


def test_names_may_be_in_a_table(tmp_path):
    file = tmp_path / "names.csv"
    file.write_text('label,name\n007,"agent, secret"\nn02119789,kit fox\n')
    prompts = Prompts(templates=["a {label}"], names=str(file))
    assert prompt_files(prompts) == [str(file)]
    assert class_prompts(prompts, ["007", "n02119789", "cat"]) == {
        "007": ["a agent, secret"], "n02119789": ["a kit fox"], "cat": ["a cat"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "message"),
    [("cat,a\ncat,b", "'cat' has 2 rows"), ("dgo,dog", "did you mean 'dog'"), ("cat,", "empty name")],
)
def test_a_fault_in_a_table_of_names_is_described(tmp_path, rows, message):
    file = tmp_path / "names.csv"
    file.write_text(f"label,name\n{rows}\n")
    with pytest.raises(UserError, match=message):
        class_prompts(Prompts(names=str(file)), ["cat", "dog"])


def test_a_table_of_names_that_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"prompts\.names: .*names.csv: no such file"):
        prompt_files(Prompts(names=str(tmp_path / "names.csv")))
