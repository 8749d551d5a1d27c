"""icp-agent: attests its node, keeps the node's identities fresh, and hands each workload its own.

What decides is in `domain`, pure; what it needs of the outside is in `ports`; `app` puts the parts together.
"""
