"""Scripts behind every published figure: `python -m benchmarks.NAME`, results in `results/`."""
