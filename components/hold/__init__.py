"""The hold step."""
