"""Tables of the README and the pages of results, from records and results."""
