"""PromQL that several panels share. `$__rate_interval` is Grafana's: four scrapes at least."""

__all__ = ["buckets", "per_second", "quantile", "requested"]

OURS = 'namespace=~"hearloop|kubeflow"'
"""Where the platform and the steps of its pipelines run, in every environment."""


def per_second(counter: str, by: str = "", over: str = "$__rate_interval") -> str:
    """How often, summed over replicas; by a label where one is given."""
    return f"sum{f' by ({by})' if by else ''} (rate({counter}[{over}]))"


def buckets(histogram: str, over: str = "$__rate_interval") -> str:
    """Observations per second in each bucket. `histogram`: its name, with labels or without."""
    name, brace, labels = histogram.partition("{")
    return f"sum by (le) (rate({name}_bucket{brace}{labels}[{over}]))"


def quantile(share: float, histogram: str, over: str = "$__rate_interval") -> str:
    """A quantile of a histogram, over all its labels."""
    return f"histogram_quantile({share}, {buckets(histogram, over)})"


def requested(resource: str, by: str = "") -> str:
    """What our pods ask for: Kubernetes buys nodes by it."""
    selected = f'kube_pod_container_resource_requests{{resource="{resource}", {OURS}}}'
    return f"sum{f' by ({by})' if by else ''} ({selected})"
