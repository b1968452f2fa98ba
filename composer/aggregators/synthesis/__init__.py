"""One expert writes the answer from what others, or it itself, proposed."""
