"""Pure folds of events into answers: no clock, no files, no environment."""
