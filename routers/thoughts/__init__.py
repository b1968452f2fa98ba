"""The router of a mixture of thoughts, trained alone on recorded outcomes."""
