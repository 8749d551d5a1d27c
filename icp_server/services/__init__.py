"""Use cases, one file an upstream API: what the API layer calls once a message is decoded."""
