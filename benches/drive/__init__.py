"""What `scripts/bench` is made of: services that are started and watched, the cases, the table."""
