# Every target builds what it needs, so each works as the first command in a fresh clone.
ifneq ($(filter gpu-check,$(MAKECMDGOALS)),)
DEVICE ?= cuda
endif
DEVICE ?= cpu
VARIANT ?= tutorial
PYTHON ?= python3
PY := .venv/bin/python
BENCH := $(PY) -m bench
BIN := .venv/bin

# options that are passed on when given: make bench BATCH=32 ROUNDS=3
# (only from make's own command line: a shell may hold a NAME or a PASS of its own)
passed = $(foreach name,$(1),$(if $(filter command,$(origin $(name))),--$(subst _,-,$(shell echo $(name) | tr A-Z a-z)) $($(name))))
SHAPING := $(call passed,FRAMEWORK MODE PRECISION LAYOUT LRN PRESET NET INPUT LOADERS PREPROCESSING DEVICES SCALING SPLIT NODES BATCH PASS ROUNDS ITERATIONS BURN_IN SIZE THREADS \
  SEED WEIGHTS MAX_TIME TARGET_CI AB SHARD)
PASSED = $(SHAPING) $(call passed,OUT NAME)
# GPU builds of torch and tensorflow own the same cuDNN files, so each has an environment of its own
# (of the frameworks of the default run, or of those asked for: make setup DEVICE=cuda FRAMEWORK=all)
GPU_NAMES := $(if $(findstring cuda,$(DEVICE)),$(shell $(PYTHON) -c "import impls; print(*impls.gpu_builds('$(FRAMEWORK)'))"))
# those that are there when a recipe runs: wildcard would not see one that was made in the meantime
GPU_PYTHONS = $(foreach name,$(GPU_NAMES),\
  $(if $(shell ls .venvs/$(name)/bin/python 2> /dev/null),--python $(name)=.venvs/$(name)/bin/python))
GPU_READY := $(GPU_NAMES:%=.venvs/%/ready)
# of every framework that has an environment, for the command that takes all that see the device
ALL_GPU_PYTHONS = $(if $(findstring cuda,$(DEVICE)),$(foreach python,$(shell ls .venvs/*/bin/python 2> /dev/null),\
  --python $(word 2,$(subst /, ,$(python)))=$(python)))
# in the order written, also with -j: nothing is installed before gpu-found has answered
.NOTPARALLEL:
# what computes on a GPU: a machine without one is refused before anything is installed for it
READY := $(if $(GPU_READY),gpu-found) .venv/ready $(GPU_READY)

.PHONY: bench classic layers verify compare selftest env gpu-check profile peers train data predict pictures plot report export ci-bench ingest browser check \
  test test-all cheats fuzz columns lint setup gpu-found clean help

# the plain `make bench` answers within 5 minutes: on a machine too noisy for that it stops after fewer Rounds
GUARD := $(if $(strip $(SHAPING) $(filter-out tutorial,$(VARIANT)) $(filter-out cpu,$(DEVICE))),,--max-time 290)

bench: $(READY) ## time every case: make bench [DEVICE=cuda] [VARIANT=owt] [FRAMEWORK=torch] [BATCH=32]
	$(BENCH) run --device $(DEVICE) --variant $(VARIANT) $(GPU_PYTHONS) $(PASSED) $(GUARD)

classic: $(READY) ## the article's protocol: batch 32, 10 burn-in, 100 iterations: make classic [ITERATIONS=20]
	$(BENCH) run --protocol classic --device $(DEVICE) --variant $(VARIANT) $(GPU_PYTHONS) $(PASSED)

layers: .venv/ready ## shape, params and MACs of every layer, and what the frameworks report
	$(BENCH) layers $(call passed,VARIANT) --framework $(or $(FRAMEWORK),all)

verify: $(READY) ## verify that all variants are equal in every framework: make verify [VARIANT=owt] [BATCH=8] [FRAMEWORK=all]
	$(BENCH) verify --device $(DEVICE) --variant $(if $(filter command,$(origin VARIANT)),$(VARIANT),all) $(GPU_PYTHONS) \
	  $(call passed,FRAMEWORK BATCH SIZE PRECISION WEIGHTS DUMP AGAINST)

profile: $(READY) ## time each layer of a net: make profile [VARIANT=owt] [FRAMEWORK=torch] [BATCH=32] [NET=FILE.py:NAME]
	$(BENCH) profile --device $(DEVICE) --variant $(VARIANT) $(GPU_PYTHONS) \
	  $(call passed,FRAMEWORK MODE PRECISION LAYOUT LRN PRESET NET INPUT BATCH PASS ROUNDS ITERATIONS SIZE THREADS)

train: $(READY) ## train on labeled pictures: make train [DATA=photos] [FRAMEWORK=all] [EPOCHS=20]; without DATA drawn flowers
	$(BENCH) train $(if $(filter command,$(origin DATA)),$(DATA)) --device $(DEVICE) $(GPU_PYTHONS) \
	  $(call passed,FRAMEWORK VARIANT SIZE PREPROCESSING EPOCHS LR BATCH SEED INIT WEIGHTS FREEZE CLASSES RESUME OUT NAME)

data: .venv/ready ## look at pictures: counts, sizes, copies, a contact sheet: make data [DATA=photos]; without DATA drawn flowers
	$(BENCH) data $(if $(filter command,$(origin DATA)),$(DATA),flowers) \
	  $(call passed,PREPROCESSING SIZE BATCH SEED OUTPUT SAVE)

predict: $(READY) ## name what is in pictures: make predict FILES=photos WEIGHTS=best.safetensors [FRAMEWORK=all] [TOP=5]
	$(BENCH) predict $(FILES) --device $(DEVICE) $(GPU_PYTHONS) \
	  $(call passed,WEIGHTS FRAMEWORK VARIANT SIZE PREPROCESSING LABELS BATCH TOP OUT NAME)

# in a folder of its own, so that nothing of earlier walks is in the way
pictures: .venv/ready ## look at the drawn flowers, train, predict and time their loaders in all frameworks: make pictures [EPOCHS=5]
	set -e; walk=results/pictures-$$(date -u +%Y%m%dT%H%M%SZ); mkdir -p $$walk; \
	$(BENCH) data flowers --save $$walk/flowers --output $$walk/flowers.png; \
	$(BENCH) train $$walk/flowers --framework $(or $(FRAMEWORK),all) --epochs $(or $(EPOCHS),5) --out $$walk; \
	$(BENCH) predict $$walk/flowers --weights $$(ls $$walk/*-train-half_width/*/best.safetensors | head -1) \
	  --framework $(or $(FRAMEWORK),all) --held-out --out $$walk; \
	$(BENCH) run --input $$walk/flowers --loaders 0,2 --framework $(or $(FRAMEWORK),all) \
	  --variant half_width --size 99 --out $$walk --name loaders; \
	$(BENCH) report $$walk/*-loaders $$walk/*-train-* $$walk/*-predict-* --output $$walk/report.html

peers: .venv/ready ## compare our nets with those of other programs: make peers [PLAN="torchvision tensorflow lrn train"] [ROUNDS=10]
	$(PY) examples/peers.py $(PLAN) $(call passed,ROUNDS BATCH ITERATIONS)

compare: .venv/ready ## verdicts for two Runs: make compare BASE=results/A [CANDIDATE=results/B]
	$(BENCH) compare $(BASE) $(CANDIDATE)

selftest: .venv/ready ## test the harness itself
	$(BENCH) selftest

env: .venv/ready ## inspect this machine, with advice
	$(BENCH) env $(GPU_PYTHONS) $(call passed,FRAMEWORK) --device $(DEVICE)

gpu-check: $(READY) ## check all that is done on a GPU, in 9 minutes, to one archive: make gpu-check [DEVICE=cpu] [STEP=env,verify]
	$(BENCH) gpu-check --device $(DEVICE) $(ALL_GPU_PYTHONS) $(call passed,FRAMEWORK STEP MAX_TIME OUT)

plot: .venv/ready ## plot result CSVs: make plot [CSV="results/*/summary.csv"] [KIND=throughput] [OUTPUT=times.png]
	$(BENCH) plot $(CSV) $(call passed,KIND OUTPUT)

report: .venv/ready ## write an HTML page of a Run: make report [RUN=results/A] [OUTPUT=report.html]
	$(BENCH) report $(if $(filter command,$(origin RUN)),$(RUN)) $(call passed,OUTPUT)

export: .venv/ready ## convert a Run for another program: make export RUN=results/A FORMAT=bencher [OUTPUT=bencher.json]
	$(BENCH) export $(call passed,FORMAT OUTPUT) $(RUN)

# pytest does not have these options, so they are passed as variables
ASKED := VARIANT FRAMEWORK MODE PRECISION LAYOUT LRN PRESET BATCH PASS ROUNDS ITERATIONS BURN_IN SIZE THREADS SEED
CI_ENV = $(foreach name,$(ASKED),$(if $(filter command,$(origin $(name))),ALEXNET_BENCH_$(name)=$($(name))))

ci-bench: .venv/ready ## time under pytest-benchmark, store, compare with the run before: make ci-bench [BATCH=2]
	$(CI_ENV) $(PY) -m pytest tests/speed/test_cases.py --benchmark-only --benchmark-autosave --benchmark-save-data \
	  $(if $(wildcard .benchmarks/*/*.json),--benchmark-compare) --benchmark-columns=min,mean,stddev,median,rounds --benchmark-sort=name

ingest: .venv/ready ## convert pytest-benchmark files to a Run: make ingest FILES=".benchmarks/*/*.json"
	$(BENCH) ingest $(FILES) $(call passed,OUT NAME)

browser: ## install what the report's browser tests need: Debian's chromium, axe-core from npm
	command -v chromium && command -v chromedriver || apt-get install -y -q chromium chromium-driver || \
	  { apt-get update -q && apt-get install -y -q chromium chromium-driver; }
	npm install --silent --no-audit --no-fund --no-save --prefix .venv/browser axe-core@4

# -rs names every skipped test with its reason
TESTS := $(PY) -m pytest tests --ignore=tests/speed -q -rs --no-fold-skipped

# without tests that start a Worker, a framework or a browser; the remaining ones cover every package
check: lint ## format, lint, types, imports and the quick tests, under 2 minutes: for each commit
	$(TESTS) -m "not slow and not process"

test: .venv/ready ## run all tests but the slow ones
	$(TESTS) -m "not slow"

test-all: .venv/ready ## run all tests
	$(TESTS)

test-scale: .venv/ready ## run the tests of whole nets on Teams, and over several nodes: network namespaces, as root, and Ray where it is installed
	$(PY) -m pytest tests/scale -q -rs --no-fold-skipped -s

fuzz: .venv/ready ## give thousands of mutated files and odd values to the commands
	$(PY) -m pytest tests/fuzz -q -m fuzz

cheats: .venv/ready ## time nets that cheat beside an honest one: make cheats [FRAMEWORK=torch]
	PYTHONPATH=tests $(PY) -m cheats.table $(FRAMEWORK)

columns: .venv/ready ## write the tables of columns and flags in results/README.md
	$(PY) -m tests.column_help

lint: .venv/ready ## check format, lint, types and imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: .venv/ready $(GPU_READY) ## make .venv; DEVICE=cuda: GPU environments too, on any machine: make setup DEVICE=cuda [FRAMEWORK=all]

gpu-found:
	@$(PYTHON) -m bench.machine.gpu_cause $(DEVICE)

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all,dev]"
	@touch $@

.venvs/%/ready: pyproject.toml constraints-gpu-%.txt
	@echo "The GPU build of $*, several GB, is installed in .venvs/$*; this takes some minutes"
	$(PYTHON) -m venv .venvs/$*
	.venvs/$*/bin/pip install --quiet --disable-pip-version-check -c constraints-gpu-$*.txt \
	  $$($(PYTHON) -c 'import impls; print(*impls.gpu_requirements("$*"))')
	@touch $@

clean: ## remove environments and caches; results stay
	rm -rf .venv .venvs .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache *.egg-info

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | sort | expand -t 12
