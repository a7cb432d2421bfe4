"""Training: a schedule of phases, a resumable loop, its history."""
