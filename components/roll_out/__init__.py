"""The roll out step."""
