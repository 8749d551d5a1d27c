"""JOSE as far as SPIFFE needs it, strict, over `cryptography`. So far: public keys as JWK (`jwk`)."""
