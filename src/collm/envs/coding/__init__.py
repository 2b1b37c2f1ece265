"""The coding tasks CoopHE, HumanEval and MBPP (tasks.md section 2)."""
