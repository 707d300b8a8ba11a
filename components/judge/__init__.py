"""The judge step."""
