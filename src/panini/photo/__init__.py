"""Photos as files and as pixels."""
