"""One file a framework, one framework a file; each needs the extra of the same name."""
