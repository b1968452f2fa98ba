"""RouterRetriever: pilots of experts, from their examples or from what they won."""
