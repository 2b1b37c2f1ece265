"""Programs that try to reach files, processes, the network or the machine, and to leave something behind."""

PROGRAMS: dict[str, str] = {
    "forks": """
import os
if os.fork() == 0:
    import time
    time.sleep(600)
def f(x): return 1
""",
    "daemon": """
import os, sys
def daemon():
    if os.fork(): return
    os.setsid()
    if os.fork(): os._exit(0)
    open("/tmp/@MARK@-daemon", "w").write("here")
    while True: pass
try: daemon()
except OSError: pass
def f(x): return 1
""",
    "fork_bomb": """
import os
while True:
    try: os.fork()
    except OSError: pass
""",
    "clone_by_number": """
import ctypes
libc = ctypes.CDLL(None)
for number in (56, 57, 58, 435, 220):  # clone, fork, vfork, clone3; clone elsewhere
    if libc.syscall(number, 17, 0, 0, 0, 0) == 0:
        open("/tmp/@MARK@-clone", "w")
        while True: pass
def f(x): return 1
""",
    "threads": """
import threading
def work():
    while True: pass
for _ in range(100): threading.Thread(target=work, daemon=True).start()
def f(x): return 1
""",
    "subprocess": """
import subprocess
subprocess.run(["/bin/sh", "-c", "touch /tmp/@MARK@-shell; sleep 600 &"])
def f(x): return 1
""",
    "exec": """
import os
for path in ("/bin/sh", "/usr/bin/python3", "/bin/true"):
    try: os.execv(path, [path, "-c", "exit 0"])
    except OSError: pass
def f(x): return 1
""",
    "multiprocessing": """
import multiprocessing, time
multiprocessing.Process(target=time.sleep, args=(600,)).start()
def f(x): return 1
""",
    "shell": """
import os
os.system("touch /tmp/@MARK@-system")
os.popen("sleep 600")
def f(x): return 1
""",
    "kills_its_parents": """
import os, signal
for pid in (os.getppid(), @PARENT@, @CANARY@, 1, -1, 0):
    try: os.kill(pid, signal.SIGKILL)
    except OSError: pass
def f(x): return 1
""",
    "kills_everybody": """
import os, signal
for pid in range(1, 40000):
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP):
        if pid != os.getpid():
            try: os.kill(pid, number)
            except OSError: pass
def f(x): return 1
""",
    "kills_by_descriptor": """
import os, signal
for pid in (@PARENT@, @CANARY@):
    try: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL)
    except OSError: pass
def f(x): return 1
""",
    "queues_signals": """
import ctypes
libc = ctypes.CDLL(None)
for pid in (@PARENT@, @CANARY@):
    libc.sigqueue(pid, 9, 0)
    libc.killpg(pid, 9)
def f(x): return 1
""",
    "signals_by_file_owner": """
import fcntl, os, signal
r, w = os.pipe()
fcntl.fcntl(r, 10, 9)  # F_SETSIG
fcntl.fcntl(r, fcntl.F_SETOWN, @PARENT@)
fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC)
os.write(w, b"x")
def f(x): return 1
""",
    "traces": """
import ctypes
libc = ctypes.CDLL(None)
for pid in (@PARENT@, @CANARY@):
    libc.ptrace(16, pid, 0, 0)
    libc.ptrace(0x4206, pid, 0, 0)
    buffer = ctypes.create_string_buffer(64)
    class Vector(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
    there, here = Vector(0x400000, 64), Vector(ctypes.addressof(buffer), 64)
    libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
def f(x): return 1
""",
    "limits_of_others": """
import resource
for pid in (@PARENT@, @CANARY@):
    try: resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, 3))
    except OSError: pass
def f(x): return 1
""",
    "raises_its_limits": """
import resource
for what in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
    try: resource.setrlimit(what, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (ValueError, OSError): pass
    assert resource.getrlimit(what)[1] != resource.RLIM_INFINITY
x = bytearray(1 << 31)
def f(x): return 1
""",
    "priorities_of_others": """
import os
for pid in (@PARENT@, @CANARY@):
    try: os.setpriority(os.PRIO_PROCESS, pid, 19)
    except OSError: pass
    try: os.sched_setaffinity(pid, {0})
    except OSError: pass
def f(x): return 1
""",
    "becomes_root": """
import os
for change in (os.setuid, os.setgid, os.seteuid, os.setegid):
    try: change(0)
    except OSError: pass
try: os.setresuid(0, 0, 0)
except OSError: pass
open("/root/@MARK@", "w")
open("/etc/@MARK@", "w")
def f(x): return 1
""",
    "new_namespaces": """
import ctypes
libc = ctypes.CDLL(None)
for flags in (0x10000000, 0x20000, 0x40000000, 0x20000000):
    assert libc.unshare(flags) == -1
assert libc.mount(b"tmpfs", b"/", b"tmpfs", 0, None) == -1
assert libc.umount2(b"/sandbox", 2) == -1
assert libc.chroot(b".") == -1
def f(x): return 1
""",
    "leaves_its_root": """
import os
os.mkdir("jail")
os.chroot("jail")
for _ in range(50): os.chdir("..")
os.chroot(".")
def f(x): return int(open("@SECRET_FILE@").read())
""",
    "files_everywhere": """
import os
for place in ("/tmp", "/var/tmp", "/dev/shm", "/run/lock", "/dev/mqueue", "/", "/root", "/home", "@FOLDER@", os.path.dirname(os.__file__)):
    for name in ("@MARK@-file", ".@MARK@-hidden"):
        try: open(os.path.join(place, name), "w").write("x")
        except OSError: pass
        try: os.mkdir(os.path.join(place, name + "-directory"))
        except OSError: pass
        try: os.symlink("/etc/passwd", os.path.join(place, name + "-link"))
        except OSError: pass
def f(x): return 1
""",
    "destroys_files": """
import os, shutil
for action in (os.remove, os.truncate, lambda p: os.rename(p, p + "-@MARK@"), lambda p: os.chmod(p, 0), lambda p: open(p, "w"),
               lambda p: os.link(p, "mine"), lambda p: os.utime(p, (0, 0)), lambda p: os.chown(p, 1, 1),
               lambda p: os.setxattr(p, "user.x", b"x")):
    try: action("@SECRET_FILE@", *([0] if action is os.truncate else []))
    except OSError: pass
shutil.rmtree("@FOLDER@", ignore_errors=True)
def f(x): return 1
""",
    "poisons_the_standard_library": """
import os, random
for name in ("random.py", "re/__init__.py", "__pycache__/random.cpython-311.pyc"):
    path = os.path.join(os.path.dirname(os.__file__), name)
    try: open(path, "a").write("# @MARK@")
    except OSError: pass
    try: os.remove(path)
    except OSError: pass
def f(x): return 1
""",
    "many_files": """
import os
made = 0
for number in range(100_000):
    try:
        with open(f"@MARK@-{number}", "w") as file: file.write("x" * 4096)
        made += 1
    except OSError: break
assert made < 2000
def f(x): return 1
""",
    "one_huge_file": """
with open("@MARK@-huge", "wb") as file:
    for _ in range(1 << 20): file.write(b"x" * (1 << 20))
def f(x): return 1
""",
    "sparse_file": """
import os
fd = os.open("@MARK@-sparse", os.O_CREAT | os.O_RDWR)
os.ftruncate(fd, 1 << 40)
def f(x): return 1
""",
    "deep_directories": """
import os
for _ in range(5000):
    os.mkdir("@MARK@")
    os.chdir("@MARK@")
def f(x): return 1
""",
    "locked_directories": """
import os
os.mkdir("a"); open("a/b", "w").close(); os.chmod("a", 0)
os.mkdir("c"); os.symlink("@FOLDER@", "c/link")
def f(x): return 1
""",
    "shared_memory": """
from multiprocessing import shared_memory
block = shared_memory.SharedMemory(create=True, size=4096, name="@MARK@")
def f(x): return 1
""",
    "system_v_memory": """
import ctypes
libc = ctypes.CDLL(None)
assert libc.shmget(0x7C011A, 1 << 20, 0o1666) == -1
assert libc.semget(0x7C011A, 8, 0o1666) == -1
assert libc.msgget(0x7C011A, 0o1666) == -1
def f(x): return 1
""",
    "memory_without_a_name": """
import os
fd = os.memfd_create("@MARK@")
while True: os.write(fd, b"x" * (1 << 20))
""",
    "tcp": """
import socket
socket.create_connection(("127.0.0.1", @PORT@), 1).sendall(b"hello")
def f(x): return 1
""",
    "udp": """
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"hello", ("127.0.0.1", @PORT@))
def f(x): return 1
""",
    "listens": """
import socket
server = socket.create_server(("127.0.0.1", 0))
server.accept()
def f(x): return 1
""",
    "unix_sockets": r"""
import socket
for address in ("@SOCKET@", "\0@MARK@"):
    for pair in (False, True):
        try:
            if pair:
                socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b"hello", address)
            else:
                socket.socket(socket.AF_UNIX).connect(address)
        except OSError: pass
def f(x): return 1
""",
    "raw_and_netlink_sockets": """
import socket
for family, kind in ((17, 3), (16, 3), (2, 3), (10, 1), (40, 1), (38, 5)):
    try: socket.socket(family, kind)
    except OSError: continue
    raise SystemExit("a socket")
def f(x): return 1
""",
    "names_on_the_network": """
import urllib.request
urllib.request.urlopen("http://127.0.0.1:@PORT@/", timeout=1)
def f(x): return 1
""",
    "io_uring": """
import ctypes
libc = ctypes.CDLL(None)
assert libc.syscall(425, 8, ctypes.create_string_buffer(256)) == -1
assert libc.syscall(321, 0, 0, 0) == -1  # bpf
assert libc.syscall(298, 0, 0, 0, 0, 0) == -1  # perf_event_open
assert libc.syscall(323, 0) == -1  # userfaultfd
assert libc.syscall(250, 0, 0, 0, 0, 0) == -1  # keyctl
def f(x): return 1
""",
    "other_tables_of_system_calls": """
import ctypes
libc = ctypes.CDLL(None)
libc.syscall(0x40000000 + 57)  # fork in the x32 table
while True: pass
""",
    "terminal": """
import fcntl, os, termios
for fd in (0, 1, 2):
    try: fcntl.ioctl(fd, 0x5412, b"x")  # TIOCSTI: typing for the user
    except OSError: pass
try: os.open("/dev/tty", os.O_RDWR)
except OSError: pass
def f(x): return 1
""",
    "lets_go_of_its_parent": """
import ctypes, os
libc = ctypes.CDLL(None)
libc.prctl(1, 0, 0, 0, 0)
try: os.setsid()
except OSError: pass
try: os.setpgid(0, 0)
except OSError: pass
while True: pass
""",
}

_ABOUT_PROCESSES = ("forks", "daemon", "fork_bomb", "clone_by_number", "threads", "subprocess", "multiprocessing", "shell")
_IN_ITS_OWN_DIRECTORY = ("many_files", "one_huge_file", "sparse_file", "deep_directories", "locked_directories")
NEEDS = {
    name: "no_new_processes" if name in _ABOUT_PROCESSES else "no_other_files" for name in PROGRAMS if name not in _IN_ITS_OWN_DIRECTORY
}
"""What a level has to promise for a program to be stopped. (No level promises less about processes and networks than about files.)"""
