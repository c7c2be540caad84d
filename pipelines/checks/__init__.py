"""What is asked of a cluster before a pipeline runs there: each check yields findings, and changes nothing."""
