"""Where experts run: runners, residency, turns, accounting."""
