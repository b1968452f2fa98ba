"""What an order of requests, a policy of eviction and a machine make of a trace, without models."""
