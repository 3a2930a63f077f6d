"""The page behind ``hyperforget app``, on which forgetting can be watched."""
