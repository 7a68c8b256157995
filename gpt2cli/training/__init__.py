"""Training: optimizer, schedule, precision, the loop, checkpoint and exact resume."""
