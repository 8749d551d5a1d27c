"""The main job, shown: server, agent and two workloads in mutual TLS, identities rotating while you watch."""
