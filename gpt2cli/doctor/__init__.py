"""What this machine and this installation are good for: versions, speed, memory, disk, and what to fix."""
