"""What it costs: one harness that gives several stores the same work, in turns, and compares them within one run."""
