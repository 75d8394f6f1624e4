"""The commands of `synaug`, one module each, named like the command.

A module holds functions that a notebook can call, and a function of the same name as the module, which is the command:
arguments, help, and what is printed. `synaug.cli` imports the module when the command is called or completed. torch and
what needs it are imported inside functions, so that help and completion take well below a second.
"""
