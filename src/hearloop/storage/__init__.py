"""Adapters to what keeps things: objects (S3), events (Kafka), tables (SQL)."""
