PYTHON ?= .venv/bin/python

.PHONY: bench-serving
bench-serving: ## The cost of an answer, against six peers and two limits (docs/benchmarks.md)
	$(PYTHON) -m benchmarks.serving
