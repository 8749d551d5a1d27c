"""Ways to find out what a calling process is: one file an attestor, one line in `registry`."""
