# The commands of the README. All of them first make .venv from the lock; once it is there that takes no time.
#
# PYTHON  which Python .venv is made of; without it the one .venv already has, else python3.
#         Another version than .venv's makes .venv anew:  PYTHON=python3.12 make study
# TORCH_LOCKS  which builds of torch are taken, by their hashes; empty: whichever pip's index has
# ARGS    further arguments of the command:  make study ARGS=-n    make test ARGS="-m 'not slow'"

PYTHON := $(or $(PYTHON),$(realpath .venv/bin/python),python3)
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
UV ?= uv

# TensorFlow has wheels for these.
LOCK_3.11 := requirements.lock
LOCK_3.12 := requirements-3.12.lock
LOCK_3.13 := requirements-3.12.lock
LOCK := $(LOCK_$(VERSION))

# torch has builds with CUDA and without, with the same version and other hashes: the first of these that pip's index has.
# What the build itself needs, CUDA for example, follows by the versions that it names, without hashes.
TORCH_LOCKS ?= requirements-torch-cpu.lock requirements-torch.lock
TORCH := $(shell sed -n 's/^ *"torch==\([^"]*\)".*/\1/p' pyproject.toml)

# Stamps: touched last, so a set-up that failed or was interrupted leaves none.
PACKAGES := .venv/.packages-python$(VERSION)-torch$(TORCH)
INSTALLED := .venv/.installed-python$(VERSION)-torch$(TORCH)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup study report test lint docs reference lock clean

help: ## say what there is to make
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

setup: $(INSTALLED) ## make .venv and nothing else

study: $(INSTALLED) ## run the default study and make its report: results/default
	.venv/bin/snakemake --cores 4 $(or $(ARGS),-- report)
	@$(if $(ARGS),,cat results/default/summary.txt)

report: $(INSTALLED) ## make the report of a study, whatever is missing first: results/default/report.html
	.venv/bin/snakemake --cores 4 $(ARGS) -- report

test: $(INSTALLED) ## run the tests
	.venv/bin/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(INSTALLED) ## check style, layers and types: ruff, snakefmt, snakemake --lint, import-linter, mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/snakefmt --check Snakefile rules
	.venv/bin/snakemake --lint
	.venv/bin/lint-imports
	.venv/bin/mypy

docs: $(INSTALLED) ## build the documentation: docs/_build/html/index.html
	.venv/bin/sphinx-build -W --keep-going -b html docs docs/_build/html

reference: $(INSTALLED) ## write config/README.md anew from schema and defaults
	.venv/bin/python -m ptycho.workflow.config_reference

$(PACKAGES): $(LOCK)
	@pwd | grep -q "[[:space:]\"'\$$]" && { \
	  echo "$$(pwd): a space, a quote or a dollar sign in this path; Snakemake cannot run a Python there: move the folder" >&2; \
	  exit 1; } || true
	@test -n "$(LOCK)" || { \
	  echo "PYTHON=$(PYTHON) is $(if $(VERSION),Python $(VERSION),no Python that runs); 3.11, 3.12 or 3.13 is needed, for example: PYTHON=python3.11 make test" >&2; \
	  exit 1; }
	@echo "Setting up .venv with Python $(VERSION) and the packages of $(LOCK); this takes some minutes, once."
	$(PYTHON) -m venv --clear .venv
	@test -z "$(TORCH_LOCKS)" || { for lock in $(TORCH_LOCKS); do \
	  echo "torch of $$lock:"; \
	  .venv/bin/pip install --no-deps --require-hashes -r $$lock && exit 0; done; \
	  echo "No build of torch $(TORCH) that $(TORCH_LOCKS) list. Where pip says that hashes do not match, its index has another build; \`make setup TORCH_LOCKS=\` takes that one, unseen." >&2; exit 1; }
	.venv/bin/pip install torch==$(TORCH)
	.venv/bin/pip install --require-hashes -r $(LOCK)
	@touch $@

$(INSTALLED): $(PACKAGES) pyproject.toml
	.venv/bin/pip install --no-deps --no-build-isolation -e .
	@touch $@

# Pins stay as they are where pyproject.toml allows them; `make lock ARGS=--upgrade` takes the newest.
COMPILE = $(UV) pip compile pyproject.toml --extra hdf5 --extra test --extra check --extra docs --no-emit-package torch --generate-hashes \
  --no-python-downloads --custom-compile-command "make lock" --quiet $(ARGS)

lock: ## write both locks anew from pyproject.toml (needs uv)
	$(COMPILE) --python-version 3.11 -o requirements.lock
	$(COMPILE) --python-version 3.12 --universal -o requirements-3.12.lock

clean: ## remove .venv and caches; results stay
	rm -rf .venv build docs/_build ptycho.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find ptycho scripts tests -name __pycache__ -prune -exec rm -rf {} +
