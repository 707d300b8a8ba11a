"""Hearloop: a speech recognition platform that keeps learning."""
