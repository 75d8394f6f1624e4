# Needs python3 (3.11 or newer, with venv) and make. Everything else goes into .venv/.
PYTHON ?= python3
BIN := .venv/bin
UV_VERSION := 0.13.9
.PHONY: setup demo test test-fast test-slow test-cluster test-mlflow lint docs bench-quick clean
.DEFAULT_GOAL := help

help:
	@echo "make setup | demo | test | test-fast | lint     (then: . .venv/bin/activate && snakemake --cores all)"
	@echo "make docs                                       (the documentation as a site, build/site/index.html)"
	@echo "make test-slow                                  (a bucket, kills, failing disks, gigabytes: 10 minutes, 10 GB of disk)"
	@echo "make test-cluster                               (a SLURM on this machine, and the workflow through it)"
	@echo "make test-mlflow                                (synaug track with the real MLflow; needs a network)"

setup: .venv/installed$(if $(TORCH),-$(TORCH))

# uv, because it reads no pip configuration: a `+cpu` torch beside a torchvision from elsewhere cannot be imported.
# --compile-bytecode: without it torch and diffusers take five times as long to start.
# TORCH=cpu: a torch without CUDA, from PyTorch's own index. nvidia-ml-py stays; it is small, and synaug imports it.
.venv/installed .venv/installed-cpu: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
ifeq ($(TORCH),cpu)
	grep -vE '^(cuda-|nvidia-[cn]|triton)' requirements.lock > .venv/requirements-cpu.lock
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --compile-bytecode --torch-backend cpu -r .venv/requirements-cpu.lock
else
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --compile-bytecode -r requirements.lock
endif
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --no-deps --editable .
	touch .venv/installed $@

demo: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores all
	@echo "Now open results/fashion_mnist_lt/report.html"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/ty check --python .venv
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --lint

# Warnings are errors: broken links, pages without a place in the sidebar, names that the library does not have. All pages
# are read each time, because Sphinx does not repeat its warnings of unchanged pages. Sphinx has a folder of its own, so
# that the environment stays as it is, but runs with the Python there: it imports the library to read the docstrings.
docs: setup .venv-docs/installed
	PYTHONPATH=.venv-docs $(BIN)/python -m sphinx --quiet --fresh-env --fail-on-warning --keep-going -c docs -d build/doctrees . build/site
	@echo "Now open build/site/index.html"

.venv-docs/installed: docs/requirements.lock
	rm -rf .venv-docs
	$(BIN)/uv pip install --quiet --python $(BIN)/python --target .venv-docs -r docs/requirements.lock
	touch $@

test-fast: setup
	$(BIN)/pytest tests/unit -n 2 --dist worksteal

test: setup lint
	$(BIN)/pytest tests -n 4 --dist worksteal

# Tests that repeat a step many times, or need much disk: results in a bucket, kills, failing writes, random damages, and
# gigabytes of images in one file (10 GB in the temporary folder). Not part of `test`; .ci/run has them.
test-slow: setup
	$(BIN)/pytest tests -m slow -n 2 --dist worksteal --durations=15

# Every program in benchmarks/ runs to its end, with as little work as possible: it shows that they work, and measures nothing.
bench-quick: setup
	$(BIN)/python benchmarks/quick.py

# Root, and Debian or Ubuntu: it installs the packages of SLURM. Not part of `test`.
test-cluster: setup
	$(BIN)/pytest tests/cluster

# The tests of `synaug track` with the real MLflow, which the lock cannot have: it needs other versions of two packages.
# They are in a folder of their own, which is first in sys.path here only.
test-mlflow: setup
	$(BIN)/uv pip install --quiet --python $(BIN)/python --target .venv/mlflow 'mlflow-skinny>=3' alembic 'sqlalchemy>=2'
	PYTHONPATH=$(CURDIR)/.venv/mlflow $(BIN)/pytest tests/unit/commands/test_track.py

clean:
	rm -rf .venv .venv-docs build/site build/doctrees results logs .snakemake
