"""The hash of the code behind a script: what changes it, and what does not."""

import shutil

import pytest

from synaug.runtime import code


@pytest.fixture
def checkout(tmp_path, repository, monkeypatch):
    """A copy of the scripts and the library, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    scripts = tmp_path / "workflow_scripts"
    shutil.copytree(
        repository / "workflow_scripts", scripts, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    forget()
    yield scripts
    forget()


def forget():
    for kept in (code.code_hash, code._known, code._imported, code._templates, code._files, code._cache):
        kept.cache_clear()


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    forget()


def test_a_module_that_the_script_imports_changes_the_hash(checkout):
    train, losses = checkout / "training/train.py", checkout / "synaug/training/losses.py"
    before = {
        name: code.code_hash(checkout / name) for name in ("training/train.py", "balance/build_balanced_manifest.py")
    }
    change(losses, "EFFECTIVE_BETA = 0.9999", "EFFECTIVE_BETA = 0.999")
    assert code.code_hash(train) != before["training/train.py"]
    assert (
        code.code_hash(checkout / "balance/build_balanced_manifest.py") == before["balance/build_balanced_manifest.py"]
    )
    change(losses, "EFFECTIVE_BETA = 0.999", "EFFECTIVE_BETA = 0.9999")
    assert code.code_hash(train) == before["training/train.py"]


def test_a_script_that_another_script_imports_counts(checkout):
    final = checkout / "training" / "train_final.py"
    before = code.code_hash(final)
    change(checkout / "training" / "train.py", "torch.set_num_threads(1)", "torch.set_num_threads(2)")
    assert code.code_hash(final) != before


def test_docstrings_comments_and_dates_do_not_count(checkout):
    train, losses = checkout / "training/train.py", checkout / "synaug/training/losses.py"
    before = code.code_hash(train)
    lines = losses.read_text().splitlines()
    lines[0] = '"""Another docstring.'
    losses.write_text("\n\n".join([*lines, "# and a comment"]) + "\n")
    forget()
    assert code.code_hash(train) == before


def test_descriptions_of_the_config_do_not_count(checkout):
    before = code.code_hash(checkout / "training/train.py")
    change(checkout / "synaug/config/training.py", "Images per optimiser step.", "The number of images per step.")
    assert code.code_hash(checkout / "training/train.py") == before


def test_modules_that_are_imported_inside_of_functions_and_templates_count(checkout):
    closure = code.import_closure(checkout / "screening/score_shard.py")
    assert checkout / "synaug/screening/scorers.py" in closure  # imported where networks are on
    assert checkout / "synaug/report/page.css" in code.import_closure(checkout / "report/report.py")


def test_every_script_sees_the_modules_that_its_hand_written_list_once_forgot(checkout):
    def imported(script):
        return {str(path.relative_to(checkout)) for path in code.import_closure(checkout / script)}

    assert {"synaug/training/loop.py", "synaug/training/losses.py"} <= imported("screening/fit_screener.py")
    for script in ("training/train.py", "training/finetune.py"):
        assert {"synaug/balance.py", "synaug/manifests/tables.py"} <= imported(script)
    for script in ("evaluation/probe_domains.py", "evaluation/probe_shortcuts.py"):
        assert "synaug/images/codec.py" in imported(script)


def test_a_script_that_does_not_exist_is_an_error(checkout):
    with pytest.raises(FileNotFoundError):
        code.code_hash(checkout / "training/trian.py")


def test_the_cache_is_only_quick(checkout, tmp_path):
    before = code.code_hash(checkout / "training/train.py")
    code.save_cache()  # no folder .snakemake/: left out
    assert not code.CACHE.exists()
    (tmp_path / ".snakemake").mkdir()
    code.save_cache()
    forget()
    assert code._cache() and code.code_hash(checkout / "training/train.py") == before
    code.CACHE.write_text("{")
    forget()
    assert code.code_hash(checkout / "training/train.py") == before
    change(checkout / "synaug/training/losses.py", "EFFECTIVE_BETA = 0.9999", "EFFECTIVE_BETA = 0.99")
    assert code.code_hash(checkout / "training/train.py") != before


def test_jobs_import_the_library_of_the_checkout_first(monkeypatch, tmp_path):
    import os

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["elsewhere", str(tmp_path)]))
    code.import_from(tmp_path)
    assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(tmp_path), "elsewhere"]
