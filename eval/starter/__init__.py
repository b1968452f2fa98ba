"""Narrow skills that a small model can learn, and the experts that are trained on them."""
