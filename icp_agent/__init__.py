"""icp-agent: attests its node, keeps the node's identities fresh, and hands each workload its own.

What decides is in `domain`, pure; what it needs of the outside is in `ports`; `app` puts the parts together.
"""

__version__ = "5.0.0.dev0"
"""The distribution's; written here too since asking for it costs an agent 3 MiB. A test compares the two."""
