# Everything runs from .venv, which the first target that needs it creates; what must be there before is
# Python 3.11 or newer and, for the native kernels, a C++ compiler.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
KERNELS := $(wildcard imagegs/kernels/*.cpp imagegs/kernels/*.h)

.PHONY: help demo test lint format bench fuzz wheel test-wheel clean

help:
	@echo "make demo        fit a photograph, write, decode and report it, into demo/"
	@echo "make test        run the tests"
	@echo "make lint        ruff, mypy and clang-format"
	@echo "make format      let ruff and clang-format rewrite the sources"
	@echo "make bench       run the benchmarks, into benchmarks/results/; QUICK=1: the tables alone, small, into build/bench/"
	@echo "make fuzz        feed decoders with anything: payloads (with clang and its sanitizers), then files; SECONDS=600 each"
	@echo "make wheel       build the wheel, into dist/"
	@echo "make test-wheel  try that wheel, without the sources"
	@echo "make clean       remove what the targets above made, .venv included"

demo: $(READY)
	$(BIN)/imagegs demo -o demo

# Not "python -m pytest": that puts this folder first on the path and hides the installed package behind the sources.
test: $(READY)
	$(BIN)/pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(KERNELS)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(KERNELS)

bench: $(READY)
	$(BIN)/python benchmarks/run.py $(if $(QUICK),--quick)

SECONDS := 600
CLANG ?= clang++
FUZZED := $(addprefix imagegs/kernels/,block_codec.cpp box_tree.cpp color_pass.cpp lattice.cpp shape_pass.cpp)

fuzz: $(READY)
	$(BIN)/python tests/fuzz/seeds.py build/fuzz/corpus
	$(CLANG) -std=c++17 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -Iimagegs/kernels \
		tests/fuzz/fuzz_block.cpp $(FUZZED) -o build/fuzz/fuzz_block
	build/fuzz/fuzz_block -max_len=4096 -timeout=10 -rss_limit_mb=1500 -max_total_time=$(SECONDS) \
		-print_final_stats=1 -artifact_prefix=build/fuzz/ build/fuzz/corpus
	$(BIN)/python tests/fuzz/fuzz_files.py $(SECONDS) build/fuzz

wheel: $(READY)
	rm -rf dist
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

# The wheel is put in front of .venv's packages; -S keeps Python from reading the .pth file of the editable install there.
test-wheel: wheel
	rm -rf build/wheel
	$(BIN)/pip install --quiet --no-deps --target build/wheel dist/*.whl
	export PYTHONPATH="$(CURDIR)/build/wheel:$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" && \
	cd build/wheel && \
	$(CURDIR)/$(BIN)/python -S -c "import imagegs, os; assert os.path.samefile(os.path.dirname(imagegs.__file__), 'imagegs')" && \
	$(CURDIR)/$(BIN)/python -S -m pytest -q -c $(CURDIR)/pyproject.toml -p no:cacheprovider \
		$(CURDIR)/tests/test_readme.py $(CURDIR)/tests/test_report.py

clean:
	rm -rf $(VENV) build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis

# A second run finds the stamp and starts at once; a changed kernel or pyproject.toml builds and installs again.
$(READY): pyproject.toml CMakeLists.txt $(KERNELS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: expected Python 3.11 or newer, found $$($(PYTHON) --version 2>&1); set PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[all]" --group dev
	@touch $@
