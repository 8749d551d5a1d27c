"""A server of SPIFFE identities: it speaks SPIRE's server API and keeps its state in one SQL database."""
