"""What a policy says of one database, as the mappings that PostgreSQL's files can hold: exact IDs and roles; pure."""

from authsec_sdk.authz import Policy, Request
from authsec_sdk.authz.rules import DatabaseScope, Rule
from authsec_sdk.cli.postgres_lines import Mapping
from authsec_sdk.errors import ConfigurationError
from authsec_sdk.spiffe import SpiffeID

__all__ = ["policy_mappings"]


def policy_mappings(policy: Policy, database: str) -> tuple[Mapping, ...]:
    """Return who may have which role in a database, sorted. What a rule denies is left out.

    PostgreSQL knows an ID by a hash of it, and cannot match patterns: a rule that allows something here has to name
    whole SPIFFE IDs and roles.

    Raises:
        ConfigurationError: a rule that allows something here says it in patterns, or of any role.
    """
    found = set()
    for rule in policy.rules:
        if rule.effect != "allow":
            continue
        for role in _roles(rule, database):
            for peer in rule.peers:
                if not isinstance(peer, SpiffeID):
                    raise _cannot(rule, f"{peer} is a pattern or a trust domain: name whole SPIFFE IDs")
                if policy.decide(peer, Request.database(database, role)).allowed:
                    found.add((peer, role))
    return tuple(Mapping(peer, role) for peer, role in sorted(found))


def _roles(rule: Rule, database: str) -> set[str]:
    if rule.scopes is None:
        raise _cannot(rule, "it allows every role: name database and roles")
    roles: set[str] = set()
    for scope in rule.scopes:
        if isinstance(scope, DatabaseScope) and (scope.names is None or database in scope.names):
            if scope.roles is None:
                raise _cannot(rule, "it allows every role: name the roles")
            roles |= scope.roles
    return roles


def _cannot(rule: Rule, why: str) -> ConfigurationError:
    line = None if rule.place is None else rule.place.line
    return ConfigurationError(f"rule {rule.name!r} cannot be written into PostgreSQL's files: {why}", line=line)
