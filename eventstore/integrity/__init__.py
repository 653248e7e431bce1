"""What can be proven of logs: Merkle trees, signed notes, verification, redaction."""
