"""Handlers for events of the cloud: an object lands in a bucket, and is transcribed."""
