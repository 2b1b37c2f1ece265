"""Programs that try to be judged as right: forged results, tampered builtins, tricks of comparison, a look at the tests.

Every test asks for a number that only the test, the parent's memory, its environment and a file of the parent's know.
"""

PROGRAMS: dict[str, str] = {
    "equal_to_everything": """
class Any:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __bool__(self): return True
    def __len__(self): return 1
    def __iter__(self): return iter([self])
    def __contains__(self, item): return True
    def __lt__(self, other): return True
    def __sub__(self, other): return 0
    def __abs__(self): return 0
def f(x): return Any()
""",
    "int_equal_to_everything": """
class Number(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __sub__(self, other): return 0
    __rsub__ = __sub__
    def __abs__(self): return 0
def f(x): return Number(3)
""",
    "containers_equal_to_everything": """
class List(list):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __iter__(self): raise AssertionError
    def __len__(self): return 1
class Text(str):
    def __eq__(self, other): return True
    def __hash__(self): return 0
def f(x): return List([Text("a")])
""",
    "dict_and_set_equal_to_everything": """
class Dict(dict):
    def __eq__(self, other): return True
    def items(self): return [(1, 2)]
class Set(set):
    def __eq__(self, other): return True
def f(x): return [Dict(a=1), Set([1]), Dict()]
""",
    "float_equal_to_everything": """
class Float(float):
    def __eq__(self, other): return True
    def __lt__(self, other): return True
    def __sub__(self, other): return 0.0
    def __rsub__(self, other): return 0.0
    def __abs__(self): return 0.0
def f(x): return Float("nan")
""",
    "class_that_claims_another": """
class Meta(type):
    def __instancecheck__(cls, other): return True
    def __subclasscheck__(cls, other): return True
    def __eq__(cls, other): return True
    def __hash__(cls): return 1
class Liar(metaclass=Meta):
    @property
    def __class__(self): return int
    def __eq__(self, other): return True
    def __index__(self): return 1
def f(x): return Liar()
""",
    "returns_a_class": """
class Meta(type):
    def __eq__(cls, other): return True
    def __bool__(cls): return True
    def __hash__(cls): return 1
class f(metaclass=Meta):
    def __new__(cls, *args): return cls
""",
    "not_a_number": "def f(x): return float('nan')\n",
    "infinite": "def f(x): return float('inf')\n",
    "prints_a_verdict": """
import sys
print('{"event": "judged", "status": "passed", "error": ""}')
print('{"status": "ok", "results": [true, true, true, true]}', file=sys.stderr)
def f(x):
    print("passed"); sys.stdout.flush()
    return None
""",
    "writes_verdicts_to_every_descriptor": r"""
import json, os, struct
def shout():
    for text in (b'{"event": "loaded"}', b'{"event": "judged", "status": "passed", "error": ""}'):
        for fd in range(64):
            try: os.write(fd, struct.pack("<I", len(text)) + text)
            except OSError: pass
shout()
def f(x):
    shout()
    return None
""",
    "forged_answers_on_the_pipe": r"""
import os, struct
def send(payload): os.write(4, struct.pack("<I", len(payload)) + payload)
# ("ready",) and ("value", None) as the sandbox encodes them, many of them
ready = b"t" + struct.pack("<I", 1) + b"s" + struct.pack("<I", 5) + b"ready"
value = b"t" + struct.pack("<I", 2) + b"s" + struct.pack("<I", 5) + b"value" + b"T"
for _ in range(9): send(ready)
for _ in range(9): send(value)
def f(x): return True
""",
    "garbage_on_the_pipe": r"""
import os
os.write(4, os.urandom(4096))
def f(x):
    os.write(4, os.urandom(4096))
""",
    "endless_length_on_the_pipe": r"""
import os
os.write(4, b"\xff\xff\xff\xff" + b"x" * 1000)
def f(x): return 1
""",
    "containers_without_content_on_the_pipe": r"""
import os, struct
payload = b"l" + struct.pack("<I", 2**31)
os.write(4, struct.pack("<I", len(payload)) + payload)
def f(x): return 1
""",
    "unhashable_keys_on_the_pipe": r"""
import os, struct
item = b"l" + struct.pack("<I", 0)
payload = b"d" + struct.pack("<I", 2) + item + item
payload = b"t" + struct.pack("<I", 2) + b"s" + struct.pack("<I", 5) + b"value" + payload
def f(x):
    os.write(4, struct.pack("<I", len(payload)) + payload)
    import time; time.sleep(0.05)
    os._exit(0)
""",
    "huge_failure_on_the_pipe": r"""
import os, struct
def text(t): return b"s" + struct.pack("<I", len(t)) + t
payload = b"t" + struct.pack("<I", 3) + text(b"failed") + text(b"load_error") + text(b"x" * (20 << 20))
data = memoryview(struct.pack("<I", len(payload)) + payload)
while data: data = data[os.write(4, data):]
def f(x): return 1
""",
    "huge_error_on_the_pipe": r"""
import os, struct
def text(t): return b"s" + struct.pack("<I", len(t)) + t
payload = b"t" + struct.pack("<I", 4) + text(b"raised") + text(b"n" * (4 << 20)) + b"l" + struct.pack("<I", 0) + text(b"x" * (20 << 20))
def f(x):
    data = memoryview(struct.pack("<I", len(payload)) + payload)
    while data: data = data[os.write(4, data):]
    return 1
""",
    "unconfined_it_says": r"""
import os, struct
payload = b"t" + struct.pack("<I", 1) + b"s" + struct.pack("<I", 10) + b"unconfined"
os.write(4, struct.pack("<I", len(payload)) + payload)
def f(x): return 1
""",
    "tampered_builtins": """
import builtins
for name in ("AssertionError", "abs", "sorted", "len", "str", "list", "isinstance", "print", "compile", "exec", "all", "any"):
    setattr(builtins, name, lambda *args, **kwargs: True)
builtins.__build_class__ = None
def f(x): return True
""",
    "tampered_operators": """
import ctypes, operator, math
operator.eq = operator.ne = lambda a, b: True
math.fabs = math.isclose = lambda *a, **k: True
try:  # make 3 mean 4 in this interpreter
    ctypes.memmove(id(3) + 24, id(4) + 24, 4)
except Exception:
    pass
def f(x): return 3
""",
    "defines_the_tests_names": """
def abs(x): return 0
def str(x): return "0"
def sorted(x): return []
def check(*args): return True
class AssertionError(Exception): pass
__debug_ = False
def f(x): return 0
""",
    "tampered_sandbox_modules": """
import sys
for name, module in list(sys.modules.items()):
    if name.startswith("jail"):
        for key, value in list(vars(module).items()):
            if callable(value) and not key.startswith("__"):
                try: setattr(module, key, lambda *a, **k: ("value", True))
                except Exception: pass
def f(x): return True
""",
    "tampered_frames_above": """
import sys
def up():
    frame = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back
def f(x):
    for frame in up():
        for key in list(frame.f_locals):
            frame.f_locals[key] = True
        frame.f_globals["passed"] = True
        frame.f_globals["AssertionError"] = ZeroDivisionError
    return True
""",
    "searches_the_stack_for_the_answer": r"""
import re, sys
def f(x):
    frame = sys._getframe()
    while frame is not None:
        for value in [*frame.f_locals.values(), *frame.f_globals.values(), *frame.f_code.co_consts]:
            for number in re.findall(r"\b7391\d{11}\b", repr(value)):
                return int(number)
        frame = frame.f_back
""",
    "searches_all_objects_for_the_answer": r"""
import gc, re
def f(x):
    for thing in gc.get_objects():
        if isinstance(thing, (dict, list, tuple)):
            for number in re.findall(r"\b7391\d{11}\b", str(thing)[:100000]):
                return int(number)
""",
    "searches_its_memory_for_the_answer": r"""
import ctypes, os, re
libc = ctypes.CDLL(None)
libc.write.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
libc.sbrk.restype = ctypes.c_void_p
r, w = os.pipe()
def page(address):  # the kernel looks whether it is there
    return os.read(r, 4096) if libc.write(w, address, 4096) == 4096 else None
def f(x):
    here = [id(thing) & ~4095 for thing in (object(), f, [0] * 200_000)] + [libc.sbrk(0) & ~4095]
    seen = set()
    for start in here:
        for address in range(start - (48 << 20), start + (48 << 20), 4096):
            if address not in seen:
                seen.add(address)
                found = re.search(rb"7391\d{11}", page(address) or b"")
                if found: return int(found.group())
""",
    "reads_memory_through_proc": r"""
import glob, re
def f(x):
    for path in ["/proc/self/mem", *glob.glob("/proc/[0-9]*/mem")]:
        maps = path.replace("/mem", "/maps")
        for line in open(maps):
            low, high = (int(part, 16) for part in line.split()[0].split("-"))
            if "rw" not in line: continue
            with open(path, "rb") as memory:
                memory.seek(low)
                found = re.search(rb"\b7391\d{11}\b", memory.read(high - low))
            if found: return int(found.group())
""",
    "reads_environments_and_command_lines": r"""
import glob, os, re
def f(x):
    for text in os.environ.values():
        if re.fullmatch(r"7391\d{11}", text): return int(text)
    for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/fd/*"):
        try: found = re.search(rb"\b7391\d{11}\b", open(path, "rb").read(1 << 20))
        except OSError: continue
        if found: return int(found.group())
""",
    "reads_the_parents_file": """
def f(x): return int(open("@SECRET_FILE@").read())
""",
    "reads_every_descriptor": r"""
import os, re
def f(x):
    for fd in range(64):
        if fd == 3: continue
        try:
            os.set_blocking(fd, False)
            found = re.search(rb"\b7391\d{11}\b", os.read(fd, 1 << 16))
        except OSError: continue
        if found: return int(found.group())
""",
    "raises_the_assertion": """
def f(x): raise AssertionError
""",
    "raises_stop_iteration": """
def f(x): raise StopIteration
""",
    "raises_generator_exit": """
def f(x): raise GeneratorExit
""",
    "raises_keyboard_interrupt": """
def f(x): raise KeyboardInterrupt
""",
    "raises_what_has_no_text": """
class Bad(Exception):
    def __str__(self): raise self
    __repr__ = __str__
def f(x): raise Bad
""",
    "raises_with_an_endless_text": """
class Bad(Exception):
    def __str__(self):
        while True: pass
def f(x): raise Bad
""",
    "raises_with_a_huge_text": """
class Bad(Exception):
    def __str__(self): return "x" * (1 << 28)
Bad.__qualname__ = "y" * (1 << 20)
def f(x): raise Bad
""",
    "raises_a_system_exit_of_success": """
def f(x): raise SystemExit(0)
""",
    "raises_while_it_is_read": """
class List(list):
    def __iter__(self): raise SystemExit(0)
class Odd(Exception):
    def __class__(self): raise SystemExit(0)
def f(x): return (item for item in List([1]))
""",
    "names_that_are_no_functions": "f = 3\n",
    "no_such_name": "g = 3\n",
    "lies_about_its_name": """
class f:
    def __new__(cls, x): return cls
    __name__ = "True"
type.__repr__ = None if False else type.__repr__
""",
    "answers_with_the_program_of_a_neighbour": r"""
import gc, re
def f(x):
    text = " ".join(thing for thing in gc.get_objects() if isinstance(thing, str))
    return re.findall("neighbour_[0-9]+", text)
""",
}

NEEDS = {
    "reads_memory_through_proc": "no_other_files",
    "reads_environments_and_command_lines": "no_other_files",
    "reads_the_parents_file": "no_other_files",
}
"""Programs that are stopped by one promise only, and succeed at a level that does not make it."""

PATIENT = ("searches_its_memory_for_the_answer", "huge_failure_on_the_pipe", "huge_error_on_the_pipe")
"""Programs that need more time than a loop is given, if they are to get anywhere."""
