"""Kinds of keys an authority may have."""

import enum


class KeyType(enum.Enum):
    """A kind of key, by the name it has in the configuration (`ca_key_type`)."""

    EC_P256 = "ec-p256"
    EC_P384 = "ec-p384"
    RSA_2048 = "rsa-2048"
    RSA_4096 = "rsa-4096"
