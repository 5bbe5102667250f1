# Every target first makes .venv if it is missing or stale (tools/environment.py).
PYTHON ?= python3
RUN := .venv/bin/python
NEW := _build/new

# The lower bounds of pyproject.toml are tested in an environment of their own.
OLDEST := .venv-oldest
OLDEST_TORCH ?= $(call lower_bound,torch)
lower_bound = $(shell sed -n 's/^dependencies.*"$(1)>=\([^"]*\)".*/\1/p' pyproject.toml)

.PHONY: book test test-library test-oldest lint browser-test pdf lab bench device-check notebooks atlas zoo real-run environment clean
.DEFAULT_GOAL := book

# The book's networks are small: a second thread gains nothing, and waits long for its turn on a busy machine.
book pdf test test-library test-oldest notebooks atlas zoo real-run: export OMP_NUM_THREADS ?= 1
# A progress bar shows times: in a stored output or on a page it would differ from run to run.
book pdf: export TQDM_DISABLE ?= 1

environment:
	@$(PYTHON) tools/environment.py

# Makes a folder the home of IPython: its kernels read no start-up files of the user's, and don't warn that they talk over
# sockets of this machine without encryption.
quiet_kernels = mkdir -p $(1)/profile_default \
	  && echo "c.IPKernelApp.log_level = 'ERROR'" > $(1)/profile_default/ipython_kernel_config.py \
	  && export IPYTHONDIR="$(CURDIR)/$(1)"

# Built into a folder of its own and moved into place when it is whole, so that an interrupted build leaves the
# last book as it was. Warnings are errors (-W), and so is a cell that raises (_config.yml).
book: environment
	@echo "building the book (a few minutes)"
	@rm -rf $(NEW).*
	@new=$(NEW).$$$$ && $(call quiet_kernels,$$new/ipython) \
	  && .venv/bin/jupyter-book build . --path-output $$new -W -n --keep-going --quiet >/dev/null \
	  && [ -e $$new/_build/html ] \
	  && { [ ! -e _build/html ] || mv _build/html $$new/last; } && mv $$new/_build/html _build/html && rm -rf $$new
	@echo "The book: file://$(CURDIR)/_build/html/index.html"

# Every notebook of book/, whose outputs have to be the stored ones (nbval), and all tests; a worker for each core, and
# each file on one worker, those that take longest first.
test: environment
	@$(RUN) -m pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder tests/book/sabotages book tests

# The library's tests alone.
test-library: environment
	@$(RUN) -m pytest -n logical --maxprocesses 8 --dist worksteal tests/library

# The tests that need nothing newer, with the oldest supported packages.  Where PyPI's torch is too large, take the CPU's:
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make test-oldest
test-oldest:
	@$(PYTHON) -m venv --clear $(OLDEST)
	@$(OLDEST)/bin/python -m pip install -qq --disable-pip-version-check torch==$(OLDEST_TORCH) \
	  $(foreach name,numpy pandas rich tqdm xarray,$(name)==$(call lower_bound,$(name))) -e ".[test]"
	@$(OLDEST)/bin/python -m pytest --override-ini addopts="--import-mode=importlib -q" -n logical --maxprocesses 8 \
	  --dist worksteal --ignore tests/library/infer/test_atlas.py tests/library

# Lint, format and types; changes nothing.
lint: environment
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy

# Check every page of the rendered book in a real browser, such as Chromium, which has to be installed.
browser-test: environment
	@[ -e _build/html/index.html ] || $(MAKE) book
	@$(RUN) -m pip install -qq --disable-pip-version-check -r tools/browser/requirements.txt
	@$(RUN) tools/browser

# The whole book on paper.
pdf: environment
	@$(RUN) -m pip install -qq --disable-pip-version-check -r tools/browser/requirements.txt
	@rm -rf _build/single
	@$(call quiet_kernels,_build/single/ipython) \
	  && .venv/bin/jupyter-book build . --builder singlehtml --path-output _build/single -W -n --keep-going --quiet >/dev/null
	@$(RUN) tools/browser/pdf.py _build/single/_build/singlehtml _build/book.pdf

lab: environment
	@$(RUN) -m jupyterlab book

# Execute every notebook (or NOTEBOOKS=...) and store its outputs.
notebooks: environment
	@$(call quiet_kernels,_build/ipython) && $(RUN) tools/execute.py $(NOTEBOOKS)

# Measure the units of every optimizer of the atlas and store them; a quarter of an hour on two cores.
atlas: environment
	@$(RUN) tools/atlas.py

# Audit the healthy and the faulty trainings of tests/library/zoo and store the result; two minutes.
zoo: environment
	@$(RUN) tools/zoo.py

# Tests, chapters and benchmarks on this machine's GPU, or CPU; eight minutes at most.
device-check: environment
	@$(RUN) tools/device_check.py

# Record the training of chapter 12 and store it; half an hour on a quiet core.  Stopped, it goes on from where it was.
real-run: environment
	@$(RUN) tools/real_run.py

bench: environment
	@$(RUN) -m pip install -qq --disable-pip-version-check -r benchmarks/requirements.txt
	@for script in $(filter-out %/rivals.py,$(wildcard benchmarks/*.py)); do $(RUN) $$script || exit 1; done

clean:
	rm -rf _build .venv .venv.lock $(OLDEST)
