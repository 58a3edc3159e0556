"""Read models: pure folds over the log, one question each."""
