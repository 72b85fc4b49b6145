# Everything runs from .venv, which the first target that needs it creates; what must be there before is
# Python 3.11 or newer and, for the native kernels, a C++ compiler.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
KERNELS := $(wildcard imagegs/kernels/*.cpp imagegs/kernels/*.h)
CUDA := $(wildcard imagegs/kernels/*.cu) tests/cuda_shim.h

.PHONY: help demo test lint format bench docs fuzz built-wheel wheel test-wheel clean

help:
	@echo "make demo        fit a photograph, write, decode and report it, into demo/"
	@echo "make test        run the tests"
	@echo "make lint        ruff, mypy and clang-format"
	@echo "make format      let ruff and clang-format rewrite the sources"
	@echo "make bench       all of docs/results.md, a day and more; QUICK=1: the tables alone, small, into build/bench/"
	@echo "make docs        build the documentation site, into build/site/"
	@echo "make fuzz        feed decoders with anything: payloads (with clang and its sanitizers), then files; SECONDS=600 each"
	@echo "make wheel       build the wheel, into dist/, and test it in a clean environment with what it depends on"
	@echo "make test-wheel  build it and test it quickly, on the packages of .venv"
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
	$(BIN)/clang-format --dry-run --Werror $(KERNELS) $(CUDA)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(KERNELS) $(CUDA)

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

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "build/site/index.html"

built-wheel: $(READY)
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

WHEEL_TESTS := -q -c $(CURDIR)/pyproject.toml -p no:cacheprovider $(addprefix $(CURDIR)/tests/,test_readme.py test_report.py)
CLEAN := build/clean

# Nothing of .venv and nothing of the sources: the wheel, what it names as its dependencies, and pytest.
wheel: built-wheel
	rm -rf $(CLEAN)
	$(PYTHON) -m venv $(CLEAN)
	$(CLEAN)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(CLEAN)/bin/python -m pip install --quiet dist/*.whl "pytest>=8"
	cd $(CLEAN) && bin/imagegs --version && \
	bin/python -c "from imagegs.kernels import native; assert native.available() and 'site-packages' in native.__file__" && \
	bin/pytest $(WHEEL_TESTS)
	rm -rf $(CLEAN)

# The wheel is put in front of .venv's packages; -S keeps Python from reading the .pth file of the editable install there.
test-wheel: built-wheel
	rm -rf build/wheel
	$(BIN)/python -m pip install --quiet --no-deps --target build/wheel dist/*.whl
	export PYTHONPATH="$(CURDIR)/build/wheel:$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" && \
	cd build/wheel && \
	$(CURDIR)/$(BIN)/python -S -c "import imagegs, os; assert os.path.samefile(os.path.dirname(imagegs.__file__), 'imagegs')" && \
	$(CURDIR)/$(BIN)/python -S -m pytest $(WHEEL_TESTS)

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
