"""Grafana dashboards for three readers; `python -m monitoring.dashboards` writes their JSON."""
