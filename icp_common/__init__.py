"""What a server and an agent share of being a daemon on Linux, and nothing of what either does. Knows neither."""
