"""A calibrated combination of other routers."""
