"""Names and manners of authsec-sdk 4.x, over today's sources: for code that is not changed yet.

`authsec_sdk.spiffe` hands these out under the paths they had. New code uses `authsec_sdk` and its `workloadapi`.
"""

from authsec_sdk.compat.workload_api_client import WorkloadAPIClient
from authsec_sdk.compat.workload_svid import WorkloadSVID

__all__ = ["WorkloadAPIClient", "WorkloadSVID"]
