"""A cascade: experts from cheap to strong, until one is sure enough."""
