# Each target sets up .venv by itself when it is missing or stale (tools/environment.py).
PYTHON ?= python3
RUN := .venv/bin/python
NEW := _build/new

.PHONY: book test test-library browser-test pdf lab bench notebooks atlas environment clean
.DEFAULT_GOAL := book

# The book's networks are small: a second thread gains nothing, and waits long for its turn on a busy machine.
book pdf test test-library notebooks atlas: export OMP_NUM_THREADS ?= 1
# A progress bar shows times: in a stored output or on a page it would differ from run to run.
book pdf: export TQDM_DISABLE ?= 1

environment:
	@$(PYTHON) tools/environment.py

# Built into a folder of its own and moved into place when it is whole, so that an interrupted build leaves the
# last book as it was. Warnings are errors (-W); a cell that raises is one (_config.yml).
book: environment
	@echo "building the book (a minute or two)"
	@rm -rf $(NEW).*
	@new=$(NEW).$$$$ && .venv/bin/jupyter-book build . --path-output $$new -W -n --keep-going --quiet >/dev/null \
	  && { [ ! -e _build/html ] || mv _build/html $$new/last; } && mv $$new/_build/html _build/html && rm -rf $$new
	@echo "The book: file://$(CURDIR)/_build/html/index.html"

# By nbval every notebook of book/, where each cell's output has to be what is stored, and tests/; a worker for each core,
# and for each file one worker.
test: environment
	@$(RUN) -m pytest -n logical --maxprocesses 8 --dist loadfile book tests

# The library's tests alone.
test-library: environment
	@$(RUN) -m pytest -n logical --maxprocesses 8 --dist worksteal tests/library

# Every page of the rendered book in a real browser, which has to be there: chromium or the like.
browser-test: environment
	@[ -e _build/html/index.html ] || $(MAKE) book
	@$(RUN) -m pip install -qq --disable-pip-version-check -r tools/browser/requirements.txt
	@$(RUN) tools/browser

# The whole book on paper.
pdf: environment
	@$(RUN) -m pip install -qq --disable-pip-version-check -r tools/browser/requirements.txt
	@rm -rf _build/single
	@.venv/bin/jupyter-book build . --builder singlehtml --path-output _build/single -W -n --keep-going --quiet >/dev/null
	@$(RUN) tools/browser/pdf.py _build/single/_build/singlehtml _build/book.pdf

lab: environment
	@$(RUN) -m jupyterlab book

# Execute every notebook (or NOTEBOOKS=...) and store what it printed.
notebooks: environment
	@$(RUN) tools/execute.py $(NOTEBOOKS)

# Measure the units of every optimizer of the atlas again, and store them; three minutes on two cores.
atlas: environment
	@$(RUN) tools/atlas.py

bench: environment
	@$(RUN) -m pip install -qq --disable-pip-version-check -r benchmarks/requirements.txt
	@for script in $(filter-out %/rivals.py,$(wildcard benchmarks/*.py)); do $(RUN) $$script || exit 1; done

clean:
	rm -rf _build .venv .venv.lock
