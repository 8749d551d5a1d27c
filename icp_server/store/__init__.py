"""What the server remembers, in SQL; rows never leave this package, and every query is bound to one trust domain."""
