"""Ways to prove to the server what this node is: one file an attestor, one line each in `registry`."""
