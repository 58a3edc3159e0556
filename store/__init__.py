"""The log and the evidence store. Only this package knows the databases."""
