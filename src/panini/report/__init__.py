"""What is said of each restored face."""
