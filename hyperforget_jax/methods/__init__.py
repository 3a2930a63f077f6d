"""One file a method. Their factories are names of the package itself."""
