"""An API that records spans. OTEL_EXPORTER_OTLP_ENDPOINT names the collector, OTEL_SERVICE_NAME the service."""

from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=200))
trace.set_tracer_provider(provider)

app = FastAPI()


@app.get("/items")
def items() -> dict[str, str]:
    with trace.get_tracer("app").start_as_current_span("query"):
        return {"status": "ok"}


# Its own spans for the parts of a response are left out: there is one for each request.
FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])
