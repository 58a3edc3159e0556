"""Use cases: select, decide, append; intake, activation, verification."""
