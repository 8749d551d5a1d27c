"""What the server counts about itself, by the names an exporter will show."""

from __future__ import annotations

from icp_common.telemetry import Telemetry


class ServerCounters:
    """The server's instruments, made once and handed to whoever counts."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.calls = telemetry.counter("icp_server_calls_total", "API calls received, by method")
        self.refusals = telemetry.counter("icp_server_refused_calls_total", "API calls refused, by status")
        self.attestations = telemetry.counter("icp_server_attestations_total", "Agents attested, by node attestor")
        self.signatures = telemetry.counter("icp_server_signed_svids_total", "X509-SVIDs signed for workloads")
