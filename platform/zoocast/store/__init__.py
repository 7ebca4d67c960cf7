"""Where results lie: files that appear whole, and roots in a folder or an object store."""
