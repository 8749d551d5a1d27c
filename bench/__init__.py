"""Every number that README and docs/benchmarks.md state, as a command: ``python -m bench.NAME`` (or all: ``bench``)."""
