"""Readers of what lies on people's disks, one module for each format; each turns a path into recordings."""
