"""What must not stand together in a configuration, a file for each concern; `config.checks` runs all of them.

A rule takes the configuration and what is known of machine and data, and yields a problem for each thing wrong. What is
not known is not judged.
"""
