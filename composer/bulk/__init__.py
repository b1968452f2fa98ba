"""Many queries at once: routed first, then answered with each expert loaded as rarely as can be."""

from composer.bulk.batch import BatchReport, run_batch
from composer.bulk.progress import BatchProgress

__all__ = ["BatchProgress", "BatchReport", "run_batch"]
