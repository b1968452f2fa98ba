"""Routes, composes and schedules local expert LLMs behind one name."""
