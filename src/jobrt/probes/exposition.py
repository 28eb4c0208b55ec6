"""Text for a scrape, by prometheus-client: our families, and those that the program itself has registered."""

from collections.abc import Iterable, Iterator

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from jobrt.probes.families import Family


def exposition(families: Iterable[Family], accept: str) -> tuple[bytes, str]:
    """Return the families as text in a format that the client accepts, and its content type."""
    encoder, content_type = choose_encoder(accept)
    registry = CollectorRegistry()
    registry.register(_Families(tuple(families)))
    return encoder(registry), content_type


def own_families() -> tuple[Family, ...]:
    """Return the families that the program and its libraries have registered with prometheus-client."""
    return tuple(
        Family(
            metric.name,
            metric.type,
            metric.documentation,
            tuple((sample.name, dict(sample.labels), sample.value) for sample in metric.samples),
        )
        for metric in REGISTRY.collect()
    )


class _Families(Collector):
    """Collector of given families."""

    def __init__(self, families: tuple[Family, ...]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Return the families as prometheus-client's."""
        for family in self._families:
            metric = Metric(family.name, family.help, family.kind)
            for name, labels, value in family.samples:
                metric.add_sample(name, labels, value)
            yield metric
