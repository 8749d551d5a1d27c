"""What can be wrong with a bundle endpoint, in the family of `authsec_sdk.errors`."""

from authsec_sdk.errors import OperatorError, RetryableError

__all__ = ["BundleEndpointError", "StaleBundleError"]


class BundleEndpointError(OperatorError):
    """An endpoint is not who it should be, or serves something else than it should. Its text says what."""


class StaleBundleError(RetryableError):
    """An endpoint served an older bundle than the one we have: its sequence number is lower. Ours is kept."""
