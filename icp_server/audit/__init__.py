"""Who called what and what became of it: the audit trail."""
