"""How a node proves what it is: one file an attestor, and one line each in ``registry``."""
