"""An engine's process ends when the replica that started it is killed."""

import subprocess
import sys
import time

import psutil

PARENT = """
import multiprocessing, os, sys, time
os.environ["HYBRIDROUTE_ENGINE"] = sys.argv[1]
if not sys.argv[1]:
    del os.environ["HYBRIDROUTE_ENGINE"]
from hybridroute_serve.engines.vllm_orphans import end_with_parent

def child():
    end_with_parent()
    print(os.getpid(), flush=True)
    time.sleep(60)

if __name__ == "__main__":
    multiprocessing.get_context("fork").Process(target=child).start()
    time.sleep(60)
"""


def run_and_kill(owned: str) -> psutil.Process:
    """Kill a parent; return its child."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, owned], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    return child


def test_a_process_ends_with_its_owner() -> None:
    child = run_and_kill("1")
    deadline = time.monotonic() + 20
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_process_of_another_owner_is_left_alone() -> None:
    child = run_and_kill("")
    time.sleep(0.5)
    assert child.is_running()
    child.kill()
