"""What a run is asked to do: the schema, its field catalogue, strict TOML, presets, the launch command.

Standard library and pydantic only, so that the front end, the command line and the trainer read the same file alike.
"""
