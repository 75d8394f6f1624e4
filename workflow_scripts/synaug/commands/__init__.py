"""The commands of `synaug`, one module each: arguments and help, then what is printed.

What a command does is in `synaug.tools` and other modules, imported inside of it: help must not wait for torch.
"""
