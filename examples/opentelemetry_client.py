"""Call a service and print the span, peer and all: python opentelemetry_client.py URL SPIFFE_ID_OF_THE_SERVER."""

import json
import sys

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.httpx import mtls_client
from authsec_sdk.integrations.opentelemetry import OpenTelemetryObserver, annotate_httpx
from authsec_sdk.workloadapi import X509Source


def main(url: str, server: str) -> None:
    provider = TracerProvider()
    exporter = ConsoleSpanExporter(formatter=lambda span: json.dumps(dict(span.attributes or {})) + "\n")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    with X509Source(observer=OpenTelemetryObserver()) as source:
        source.wait(timeout=10)
        hooks = {"response": [annotate_httpx]}
        with (
            mtls_client(source, authorize_id(server), event_hooks=hooks) as client,
            trace.get_tracer("example").start_as_current_span("call"),
        ):
            client.get(url).raise_for_status()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
