"""Shipped sample data: small, our own, enough to see every format and to measure that training works."""
