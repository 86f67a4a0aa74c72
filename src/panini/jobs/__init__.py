"""Work on many pictures: folders and videos."""
