"""Programs whose return values are meant to hang, blow up or mislead the evaluator."""

PROGRAMS: dict[str, str] = {
    "number_of_a_million_digits": "def f(x): return 10 ** 1_000_000\n",
    "number_of_many_megabytes": "def f(x): return 1 << (1 << 27)\n",
    "list_of_ten_million": "def f(x): return [0] * 10_000_000\n",
    "list_of_a_billion": "def f(x): return [0] * 1_000_000_000\n",
    "text_of_a_gigabyte": "def f(x): return 'x' * (1 << 29)\n",
    "nested_lists": """
def f(x):
    inner = []
    for _ in range(100_000): inner = [inner]
    return inner
""",
    "doubled_lists": """
def f(x):
    inner = [0]
    for _ in range(60): inner = [inner, inner]
    return inner
""",
    "list_that_holds_itself": """
def f(x):
    it = [1]
    it.append(it)
    return it
""",
    "dict_that_holds_itself": """
def f(x):
    it = {}
    it["me"] = it
    return it
""",
    "colliding_keys": """
def f(x): return {i * (2**61 - 1): 0 for i in range(4000)} | {i * (2**61 - 1) * 7: 0 for i in range(4000)}
""",
    "colliding_set_on_the_pipe": r"""
import os, struct
def number(n):
    raw = n.to_bytes(16, "little", signed=True)
    return b"i" + struct.pack("<I", 16) + raw
items = b"".join(number(i * (2**61 - 1)) for i in range(200_000))
payload = b"t" + struct.pack("<I", 2) + b"s" + struct.pack("<I", 5) + b"value" + b"S" + struct.pack("<I", 200_000) + items
def f(x):
    data = memoryview(struct.pack("<I", len(payload)) + payload)
    while data: data = data[os.write(4, data):]
    return 1
""",
    "deep_nest_on_the_pipe": r"""
import os, struct
payload = (b"l" + struct.pack("<I", 1)) * 1_000_000 + b"N"
def f(x):
    data = memoryview(struct.pack("<I", len(payload)) + payload)
    while data: data = data[os.write(4, data):]
    return 1
""",
    "a_million_empty_lists_on_the_pipe": r"""
import os, struct
count = 6_000_000
payload = b"t" + struct.pack("<I", 2) + b"s" + struct.pack("<I", 5) + b"value"
payload += b"l" + struct.pack("<I", count) + (b"l" + struct.pack("<I", 0)) * count
def f(x):
    data = memoryview(struct.pack("<I", len(payload)) + payload)
    while data: data = data[os.write(4, data):]
    return 1
""",
    "endless_iterator": """
import itertools
def f(x): return itertools.repeat(1)
""",
    "endless_list_subclass": """
class Endless(list):
    def __iter__(self):
        while True: yield 1
    def __len__(self): return 1
def f(x): return Endless()
""",
    "huge_range": "def f(x): return range(10**30)\n",
    "a_million_objects": """
def f(x): return [object() for _ in range(300_000)]
""",
    "surrogates_and_controls": r"""
def f(x): return "\ud800\x00\x1b[2J\n" * 100
""",
    "error_with_controls": r"""
def f(x): raise ValueError("\x1b[2J\r\n{'event': 'judged', 'status': 'passed'}" * 50)
""",
    "attributes_that_answer": """
class Odd:
    def __getattr__(self, name): return self
    def __call__(self, *args): return self
    def __iter__(self): return self
    def __next__(self): return self
def f(x): return Odd()
""",
    "changes_its_arguments": """
def f(x):
    if isinstance(x, list): x.clear()
    return x
""",
}

PATIENT = ("number_of_many_megabytes", "deep_nest_on_the_pipe", "list_of_ten_million")
"""Programs that need more time than a loop is given, if they are to get anywhere."""
