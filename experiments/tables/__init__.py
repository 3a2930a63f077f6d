"""The README's tables, made from access records and committed results."""
