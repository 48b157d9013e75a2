# SPDX-License-Identifier: Apache-2.0
"""The functions of a user: each command of the command line as a typed function, and the result of a run.

`import learn2compress` offers them under stable names, `learn2compress.__all__`, and imports these modules on first
use. Heavy packages are imported inside the functions, so that a query needs no TensorFlow.
"""

__all__ = ["auditing", "clusters", "configuring", "measuring", "options", "replaying", "results", "running"]
