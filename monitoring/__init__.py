"""The DevOps engineer's door: the drift monitor as a service."""
