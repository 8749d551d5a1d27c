"""What others call on this agent: the Workload API for workloads, health for whoever watches over it."""
