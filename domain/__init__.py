"""Pure rules: facts in, events or a refusal out. No clock, no randomness, no I/O."""
