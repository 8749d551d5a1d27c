"""Small commands the Makefile calls; none of them is installed with the project."""
