"""The certificate authority: the only package that touches a CA's private key."""
