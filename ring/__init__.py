"""The ring engine: bounded shared-memory rings in C, pipeline specs, executors, lanes. Imports no store."""
