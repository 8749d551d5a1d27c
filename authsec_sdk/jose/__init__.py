"""JOSE as far as SPIFFE needs it, strict, over `cryptography`: tokens (`jws`), keys (`jwk`, `keys`), faults (`fault`).

There is no option to be less strict, no algorithm without a public key, and no header that tells where a key is.
"""
