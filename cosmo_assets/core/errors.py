"""What can go wrong, in one place.

CosmoError
├── BadInputError    a file, a setting or a row that people own is wrong: mend it
│   └── ChangedInputError    a file was saved while it was read: run again
├── ContractError    a step was handed, or made, a table it must not: fix the code
└── GeneratorError   an endpoint or model did not answer as its protocol says
"""


class CosmoError(Exception):
    """Anything this project refuses to go on with."""


class BadInputError(CosmoError):
    """Input that people own is wrong. The message names file, row, value and mend."""


class ChangedInputError(BadInputError):
    """A file is not what it was when its contents were named. Another reading names it anew."""


class ContractError(CosmoError):
    """A table breaks the promise its header makes."""


class GeneratorError(CosmoError):
    """A generator could not answer: unreachable, out of retries, or not speaking its protocol."""
