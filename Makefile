# The two commands that matter: `make run` (set-up and the whole pipeline) and `make test-all`.
VENV ?= .venv
SHELL := /bin/bash
export PATH := $(abspath $(VENV))/bin:$(PATH)
# No dependency phones home unless somebody asks it to.
export DVC_NO_ANALYTICS=1 MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true RAY_USAGE_STATS_ENABLED=0 HF_HUB_DISABLE_TELEMETRY=1
export RAY_ENABLE_UV_RUN_RUNTIME_ENV=0
FAST := not ray and not slow and not soak and not gpu

.PHONY: always run setup profile verify push release sweep table test test-all soak options style bench demo browser pretrain clean help

# make run CLUSTER=http://HEAD:8265: each stage is handed over to that cluster as a Ray job (docs/jobs.md)
ifdef CLUSTER
export LORWEB_CLUSTER := $(CLUSTER)
endif

run: setup  ## set up, run what is out of date of the eight stages, print the result
	dvc repro
	python -m pipelines.summary

setup: $(VENV)/.ready  ## the virtual environment (about a minute)

# one that was moved or copied with its project names its old place in its scripts
MOVED := $(shell [ -s $(VENV)/.ready ] && [ "$$(cat $(VENV)/.ready)" != "$$(realpath $(VENV))" ] && echo always)

$(VENV)/.ready: pyproject.toml setup.sh $(wildcard constraints/*.txt) $(MOVED)
	VENV=$(VENV) ./setup.sh

profile: setup  ## make profile P=smoke|paper|default: write params.yaml from profiles/
	python -m pipelines.profile $(P)

verify: setup  ## every file of this version hashed again, in workspace and cache: names what is damaged or missing
	python -m pipelines.verify

push: setup  ## this version to the DVC remote, with what brings earlier runs back elsewhere
	python -m pipelines.push

release: setup  ## data card and licence record of the data set, into release/, before it is tagged
	python -m pipelines.release

sweep: setup  ## make sweep S="train.basis.n_loras=8,16 train.basis.rank=2,4": every combination up to evaluate, then the table
	dvc exp run --queue $(foreach change,$(S),-S '$(change)') $(foreach path,$(COPY),--copy-paths $(path)) evaluate
	MLFLOW_TRACKING_URI=$${MLFLOW_TRACKING_URI:-sqlite:///$(abspath mlflow.db)} dvc exp run --run-all
	python -m pipelines.experiments

table: setup  ## experiments side by side, the best first
	python -m pipelines.experiments

test: setup  ## the fast tier, without Ray, on all cores (about 2 min on two)
	pytest -q -n auto --maxprocesses 8 --dist loadfile -m "$(FAST)"

test-all: test  ## everything but the long fault campaigns: the fast tier, the slow one, then what starts Ray
	pytest -q -n auto --maxprocesses 8 --dist loadfile -m "slow and not ray and not soak and not gpu"
	pytest -q -n 2 --dist loadfile -m "ray and not soak and not gpu"

soak: setup  ## the fault campaign of data stages, training and registry, of the promote stage, and of three machines (over an hour)
	python -m tests.soak.campaign --report docs/soak.md
	pytest -q -m soak tests

options: setup  ## docs/options.md anew: all tests, writing down which options they ran
	mkdir -p .work && rm -f .work/options.jsonl
	-LORWEB_RECORD_OPTIONS=$(abspath .work/options.jsonl) $(MAKE) test-all
	python -m tests.options_table .work/options.jsonl

style: setup  ## formatter, linter, types
	ruff format --check .
	ruff check .
	mypy

bench: setup  ## the benchmarks
	for script in benchmarks/[a-z]*.py; do python $$script || exit 1; done

demo: setup  ## a web page on http://127.0.0.1:7860 with the champion (after make run)
	lorweb demo

browser:  ## Chromium for the tests that look at pages (Debian's package; needs root or sudo)
	./browser.sh

pretrain: setup  ## make the committed tiny base again (hours; not part of the pipeline)
	python -m lorweb.tiny.pretrain corpus --workers 2
	python -m lorweb.tiny.pretrain codec --minutes 20
	python -m lorweb.tiny.pretrain train --minutes 120
	python -m lorweb.tiny.pretrain export

clean:  ## remove what the pipeline made, not the environment
	rm -rf data models reports metrics mlflow.db mlartifacts
	[ ! -d .work ] || find .work -mindepth 1 -maxdepth 1 ! -name tiny -exec rm -rf {} +

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'
