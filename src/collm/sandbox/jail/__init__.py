"""What runs on the far side of the sandbox: a small package of its own that needs nothing but the standard library.

It is started by `python -P -s -S` and imports neither collm nor anything installed, so that a fork of it is quick and
holds no secrets. Four kinds of process:

- the *keeper* (`keeper.py`) takes jobs from the parent, watches the clock and reports verdicts;
- the *zygote* (`zygote.py`) is forked once, before any job arrives, and forks a fresh *program* process per test. It never
  reads a program or a test, so neither can be found in a program's memory;
- the *program* (`program.py`) confines itself, executes the untrusted code and answers calls with plain data;
- the *evaluator* (`evaluator.py`) is forked from the keeper per test, holds the test and asks the program through a pipe.
"""
