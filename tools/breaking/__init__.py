"""Programs that try to break the promises, one noun a file. Each returns counts; `tools/faults.py` runs them."""
