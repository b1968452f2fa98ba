"""Consumers of the library: benchmarks and the demonstration. Run as `python -m eval`."""
