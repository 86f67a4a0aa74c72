"""Reports about restored faces."""
