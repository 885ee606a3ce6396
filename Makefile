# `make demo` and `make test` need Python 3.11+ and make, nothing else: each sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
INSTALL = -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-slow test-clusters test-network test-full-size test-newest lint examples docs docs-help wheel clean

demo: .venv/demo-ready
	$(BIN)/python scripts/demo.py

test: .venv/oracles-ready
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not full_size and not network and not examples"

# Many mutations, a long life, accuracy over many clips, a real Triton server: minutes.
test-slow: .venv/oracles-ready .venv/triton-ready
	$(BIN)/python -m pytest -n 2 -m slow

# Published checkpoints against the logits that public tests state for them, where the Hub can be reached.
test-network: .venv/dev-ready
	$(BIN)/python -m pytest -m network -s

# Full-size models with seeded random weights: parity, dynamic batch, time and memory. Minutes and gigabytes.
test-full-size: .venv/dev-ready
	$(BIN)/python -m pytest -m full_size -s

lint: .venv/dev-ready build/types/tubelet
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy -p tubelet
	$(BIN)/mypy scripts tests

# What examples/ show, JavaScript included where there is node.
examples: .venv/dev-ready
	if command -v node >/dev/null; then npm ci --silent --ignore-scripts --prefix examples; fi
	$(BIN)/python -m pytest -rs tests/test_examples.py

# The manual as a site in build/site. Fails where a pasted --help is stale, or a link or anchor leads nowhere.
docs: .venv/docs/ready
	PYTHONPATH=scripts .venv/docs/bin/cog --check --check-fail-msg="make docs-help writes them again" docs/*.md
	NO_MKDOCS_2_WARNING=1 .venv/docs/bin/mkdocs --quiet build --strict

# Paste the help of every command into docs/ again.
docs-help: .venv/docs/ready
	PYTHONPATH=scripts .venv/docs/bin/cog -r docs/*.md

# The torch-free half, from the wheel, in an environment that has no torch.
wheel: .venv/dev-ready
	rm -rf dist build/lib build/wheel
	$(BIN)/python -m build --wheel --outdir dist
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/python $(INSTALL) pytest "$$(ls $(CURDIR)/dist/*.whl)[cpu]"
	$(BIN)/python scripts/write_test_bundles.py build/wheel/bundles
	PYTHONSAFEPATH=1 TUBELET_BUNDLES=$(CURDIR)/build/wheel/bundles build/wheel/bin/python -P -m pytest tests/test_torch_free.py

# Ray, Daft and Spark, which are heavy, in an environment of their own.
test-clusters: .venv/dev-ready .venv/clusters/ready
	$(BIN)/python scripts/write_test_bundles.py build/clusters/bundles
	TUBELET_BUNDLES=$(CURDIR)/build/clusters/bundles .venv/clusters/bin/python -m pytest -rs -m "slow or not slow" tests/serve/batch

# The same with the newest of everything, in each Python of 3.12 and up that is here: what `pip install` gives today.
# And what needs torch with the newest transformers, in the environment of the tests.
TORCH_FREE := $(addprefix tests/,$(addsuffix .py,test_torch_free cli/test_picture_commands runtime/test_inputs \
	runtime/test_prefetch runtime/backends/test_ort runtime/proof/test_parity runtime/visual/test_picture_files \
	$(addprefix preprocess/test_,container convert damage decode fuzz large_frames pyav redaction resize sampling spec \
	through tracks video_info) $(addprefix runtime/stream/test_,connection http rtsp source) cli/test_timeline_command))
.PHONY: torch-free-tests
torch-free-tests:
	@echo $(TORCH_FREE)

test-newest: .venv/dev-ready
	rm -rf dist build/lib build/newest
	$(BIN)/python -m build --wheel --outdir dist
	$(BIN)/python scripts/write_test_bundles.py build/newest/bundles
	$(BIN)/python scripts/test_newest.py build/newest dist/*.whl $(TORCH_FREE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --target build/newest/transformers transformers
	PYTHONPATH=build/newest/transformers $(BIN)/python -c "import transformers; print('transformers', transformers.__version__)"
	PYTHONPATH=$(CURDIR)/build/newest/transformers $(BIN)/python -m pytest -q -n 2 tests/exporter/families \
		tests/exporter/checkpoint/test_hub.py tests/bench/test_baselines.py

clean:
	rm -rf .venv build dist *.egg-info

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo-ready: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python $(INSTALL) --editable '.[cpu,export]'
	touch $@

.venv/dev-ready: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python $(INSTALL) --editable '.[dev]'
	touch $@

.venv/clusters/ready: .venv/bin/python pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv/clusters
	.venv/clusters/bin/python $(INSTALL) --editable '.[cpu,ray]' daft pyspark psutil pytest
	touch $@

# Beside the commands themselves, whose help is asked for: neither torch nor an engine.
.venv/docs/ready: .venv/bin/python pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv/docs
	.venv/docs/bin/python $(INSTALL) --editable '.[docs]'
	touch $@

# What tests compare with and cannot have in their own environment: Pillow 12 and 13, torchvision, Triton's client.
.venv/oracles-ready: .venv/dev-ready scripts/install_oracles.py
	$(BIN)/python scripts/install_oracles.py pillow-12 pillow-13 torchvision tritonclient onnxruntime-rtx onnxruntime-openvino
	touch $@

# A real Triton server and the Python of its backend, where the platform has them.
.venv/triton-ready: .venv/dev-ready scripts/install_triton.py
	$(BIN)/python scripts/install_triton.py
	touch $@

# The folders at the root under the name that they are imported by, for the type checker.
build/types/tubelet:
	mkdir -p $@
	for folder in preprocess runtime exporter bench serve; do ln -sfn $(CURDIR)/$$folder $@/$$folder; done
	for part in tubelet/*; do ln -sfn $(CURDIR)/$$part $@/$$(basename $$part); done
