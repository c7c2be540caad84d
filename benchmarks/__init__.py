"""What was measured, and the scripts that measure it. Each prints the command, the machine and medians with their spread."""
