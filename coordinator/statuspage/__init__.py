"""What a person and a monitoring system see of a coordinator: the status page, and metrics for Prometheus."""
