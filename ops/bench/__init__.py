"""One script a row of the targets: `python -m muniment.ops.bench NAME`."""
