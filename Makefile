# SPDX-License-Identifier: Apache-2.0
# Every target does its own set-up. Paths are relative, so that the folder may have any name.

# TensorFlow's start-up noise, and Keras 2, which tfmot needs; read when TensorFlow is imported.
export TF_CPP_MIN_LOG_LEVEL ?= 3
export TF_USE_LEGACY_KERAS := 1
export CUDA_VISIBLE_DEVICES ?= -1

# A worker for each core, up to four: a worker with TensorFlow in it takes up to two gigabytes. Which of them runs what,
# and in which order, is told by tests/support/schedule.py.
PYTEST := .venv/bin/pytest --numprocesses auto --maxprocesses 4

TEACHER := examples/digits/teacher.keras
IMAGE ?= localhost/learn2compress:latest

.PHONY: help setup demo test lint docs engines lock image clean
.DELETE_ON_ERROR:

help:
	@echo "make demo    compress the digits classifier, leave everything in demo-output/"
	@echo "make test    lint, the layers, then all the tests, quick ones first"
	@echo "make setup   make .venv, once; the others call it"
	@echo "make lint    ruff, import-linter and mypy alone"
	@echo "make docs    build the documentation as a site, with its generated reference pages"
	@echo "make engines the digits on Prism (where Go is), and on Flink (JOB_SERVER_JAR=path), compared with one process"
	@echo "make lock    resolve requirements/*.txt anew from pyproject.toml (ARGS=--upgrade: to the newest)"
	@echo "make image   build the container image of a cluster's steps (IMAGE=name:tag, ARGS=the builder's)"
	@echo "make clean   remove what builds, tests and the demo left; .venv stays"

setup:
	@scripts/setup.sh

demo: $(TEACHER)
	.venv/bin/learn2compress run examples/digits/config.yaml --output demo-output

$(TEACHER): examples/digits/train_teacher.py | setup
	.venv/bin/python examples/digits/train_teacher.py --output $(TEACHER)

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/python scripts/lint_imports.py
	.venv/bin/python scripts/check_types.py

test: lint
	$(PYTEST)

# Material for MkDocs otherwise prints an advertisement.
docs: export NO_MKDOCS_2_WARNING := 1
docs: setup
	.venv/bin/mkdocs build --quiet
	@echo "The documentation: build/site/index.html"

engines: setup
	@scripts/engines.sh

lock:
	scripts/lock.sh $(ARGS)

image:
	@scripts/image.sh $(IMAGE) $(ARGS)

clean:
	rm -rf build dist learn2compress.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis demo-output $(TEACHER)
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
