"""Mélange: the cheapest mix of GPU types and shapes for what a service is asked."""
