"""SPIFFE workload identity for Python: mutual TLS with identities that rotate by themselves.

The names below are re-exported lazily: importing this package loads nothing else, and each name loads what it needs.
"""
