"""Where pairs come from: readers of source images, named edits, and the catalogue of tasks that are made of edits."""
