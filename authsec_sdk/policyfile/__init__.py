"""Policies in files: YAML, TOML or JSON, read strictly, watched, the last good one kept."""

from authsec_sdk.authz.policy_document import InvalidPolicyError, Problem
from authsec_sdk.policyfile.document import Format, format_of, load_policy, parse_policy
from authsec_sdk.policyfile.enforcement import DecisionHook, Enforcement
from authsec_sdk.policyfile.policyfile import PolicyFile, PolicyStatus

__all__ = [
    "DecisionHook",
    "Enforcement",
    "Format",
    "InvalidPolicyError",
    "PolicyFile",
    "PolicyStatus",
    "Problem",
    "format_of",
    "load_policy",
    "parse_policy",
]
