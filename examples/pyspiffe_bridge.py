"""Give code written for py-spiffe the identity of our source, and ours that of py-spiffe: python pyspiffe_bridge.py."""

import spiffe

from authsec_sdk import X509Source, authorize_member_of, mtls_client_context
from authsec_sdk.integrations.pyspiffe import as_pyspiffe, from_pyspiffe


def code_for_pyspiffe(source: spiffe.X509Source) -> str:
    """Whatever a program has that takes a `spiffe.X509Source`."""
    return str(source.get_x509_context().default_svid.spiffe_id)


def main() -> None:
    with X509Source() as ours, as_pyspiffe(ours) as adapted:
        print(f"py-spiffe's code sees {code_for_pyspiffe(adapted)}")
    with spiffe.X509Source(timeout_in_seconds=30) as theirs, from_pyspiffe(theirs) as source:
        svid = source.x509_context.svid
        mtls_client_context(source, authorize_member_of(svid.id.trust_domain))
        print(f"our contexts present {svid.id}")


if __name__ == "__main__":
    main()
