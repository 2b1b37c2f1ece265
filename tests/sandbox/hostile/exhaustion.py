"""Programs that do not end, end oddly, or use up what there is."""

PROGRAMS: dict[str, str] = {
    "endless_loop": "while True: pass\n",
    "endless_call": """
def f(x):
    while True: pass
""",
    "swallows_every_exception": """
def f(x):
    while True:
        try:
            while True: pass
        except BaseException: pass
""",
    "ignores_every_signal": """
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
def f(x):
    while True:
        try: signal.pause()
        except BaseException: pass
""",
    "blocks_every_signal": """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
while True: pass
""",
    "stops_itself": """
import os, signal
os.kill(os.getpid(), signal.SIGSTOP)
import time
time.sleep(600)
""",
    "sleeps": """
import time
def f(x): time.sleep(600)
""",
    "waits_for_input": """
import os, sys
def f(x):
    sys.stdin.read()
    r, w = os.pipe()
    os.read(r, 1)
""",
    "loop_inside_c": "def f(x): return 3 ** (10 ** 9)\n",
    "slow_regular_expression": """
import re
def f(x): return re.match(r"(a+)+$", "a" * 60 + "b")
""",
    "long_sum": "def f(x): return sum(range(10 ** 12))\n",
    "compile_bomb": "x = " + "(" * 150 + "1" + ")" * 150 + "\ny = " + "-" * 5000 + "1\n",
    "folding_bomb": "def f(x): return ((((1 << 60) ** 60) ** 60) ** 60) * ('a' * 4096 * 4096)\n",
    "many_lines": "x = 1\n" * 200_000,
    "source_with_a_null": "x = 1\n\0def f(x): return 1\n",
    "source_with_a_surrogate": "# \ud800\ndef f(x): return 1\n",
    "memory_at_once": "x = bytearray(1 << 34)\n",
    "memory_bit_by_bit": """
x = []
while True: x.append(bytearray(1 << 20))
""",
    "memory_and_swallow": """
x = []
def f(y):
    while True:
        try:
            while True: x.append(bytearray(1 << 16))
        except MemoryError: pass
""",
    "memory_mapped": """
import mmap
x = []
def f(y):
    while True: x.append(mmap.mmap(-1, 1 << 26))
""",
    "deep_recursion": """
import sys
sys.setrecursionlimit(10 ** 9)
def f(x): return f(x) + 1
""",
    "plain_recursion": "def f(x): return f(x) + 1\n",
    "descriptors": """
import os
x = []
def f(y):
    while True: x.append(os.open("/dev/null", os.O_RDONLY))
""",
    "pipes": """
import os
x = []
def f(y):
    while True:
        r, w = os.pipe()
        os.set_blocking(w, False)
        try:
            while True: os.write(w, b"x" * 65536)
        except BlockingIOError: x.append((r, w))
""",
    "huge_output": """
import sys
def f(x):
    while True: sys.stdout.write("x" * 100_000)
""",
    "huge_errors": """
import os
while True: os.write(2, b"x" * 65536)
""",
    "huge_line": "print('x' * (200 << 20))\ndef f(x): return 1\n",
    "exits": "import sys\nsys.exit(0)\n",
    "exits_in_a_call": """
import sys
def f(x): sys.exit(0)
""",
    "exits_at_once": """
import os
def f(x): os._exit(0)
""",
    "exits_while_loading": "import os\nos._exit(0)\n",
    "exits_by_handler": """
import atexit, os
atexit.register(os._exit, 0)
raise SystemExit
""",
    "aborts": """
import os
def f(x): os.abort()
""",
    "kills_itself": """
import os, signal
def f(x):
    os.kill(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGSEGV)
    os.abort()
""",
    "segmentation_fault": """
import ctypes
def f(x): ctypes.string_at(1)
""",
    "bad_bytecode": """
def f(x): return 1
f.__code__ = f.__code__.replace(co_code=bytes([255, 255] * 8), co_stacksize=0)
""",
    "closes_every_descriptor": """
import os
os.closerange(0, 64)
while True: pass
""",
    "closes_every_descriptor_in_a_call": """
import os
def f(x): os.closerange(0, 64)
""",
    "closes_its_streams": """
import sys
sys.stdout.close(); sys.stderr.close(); sys.stdin.close()
def f(x): return 1
""",
    "replaces_its_streams": """
import sys
class Odd:
    def __getattr__(self, name): raise SystemExit(0)
sys.stdout = sys.stderr = Odd()
def f(x): return 1
""",
    "timer": """
import signal
def again(number, frame):
    while True: pass
signal.signal(signal.SIGALRM, again)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
def f(x):
    while True: pass
""",
    "tracing": """
import sys
def trace(frame, event, arg): return trace
sys.settrace(trace); sys.setprofile(lambda *args: None)
def f(x):
    while True: pass
""",
    "destructors": """
class Again:
    def __del__(self):
        Again()
        while True: pass
def f(x):
    Again()
    return 1
""",
    "collector": """
import gc
gc.callbacks.append(lambda *args: [].__getitem__(1) if False else [0 for _ in iter(int, 1)])
gc.set_threshold(1)
def f(x): return [[] for _ in range(1000)]
""",
    "import_hook": """
import sys
class Finder:
    def find_spec(self, *args):
        while True: pass
sys.meta_path.insert(0, Finder()); sys.modules.clear()
def f(x):
    import json
""",
    "low_recursion_limit": """
import sys
def f(x): sys.setrecursionlimit(12); return 1
""",
}
