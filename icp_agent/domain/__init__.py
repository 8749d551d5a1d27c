"""What the agent decides, without a clock, a socket or a log: the caller brings the time and acts on the answer."""
