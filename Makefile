# Two commands on a fresh machine: `make study` and `make test`. The set-up is done once, by a stamp file.
PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
LOCK := $(if $(filter 3.11,$(VERSION)),requirements.lock,requirements-3.12.lock)
STAMP := $(VENV)/.ready-$(VERSION)
TORCH := $(shell sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)

.PHONY: help study test lint lock clean
help:  ## say what there is
	@sed -n 's/^\([a-z]*\):.*## /  make \1 — /p' Makefile

study: $(STAMP)  ## the whole study: tables and pictures in results/
	$(BIN)/snakemake --cores 4 $(ARGS)

test: $(STAMP)  ## the tests
	$(BIN)/pytest $(ARGS)

lint: $(STAMP)  ## style of code and workflow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint

$(STAMP): pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, but '$(PYTHON)' is '$(VERSION)': try PYTHON=python3.12 make …"; exit 1; }
	@echo "Setting up $(VENV) with Python $(VERSION) from $(LOCK): about three minutes, once."
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --require-hashes -r $(LOCK)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	@touch $@

# what torch brings itself, from whatever index pip is set to: left out of the locks
OWN := torch triton cuda-bindings cuda-pathfinder cuda-toolkit $(addprefix nvidia-,cublas cuda-cupti cuda-nvrtc \
  cuda-runtime cudnn-cu13 cufft cufile curand cusolver cusparse cusparselt-cu13 nccl-cu13 nvjitlink nvshmem-cu13 nvtx)
COMPILE := uv pip compile pyproject.toml --extra test --generate-hashes --no-header --no-emit-index-url \
  --no-emit-find-links $(addprefix --no-emit-package ,$(OWN))

lock:  ## renew the locks (needs uv)
	$(COMPILE) --python-version 3.11 -o requirements.lock
	$(COMPILE) --python-version 3.12 -o requirements-3.12.lock

clean:  ## remove the set-up; results stay
	rm -rf $(VENV)
