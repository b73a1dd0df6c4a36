"""Standard error of a process -> the same without the start-up messages of its libraries.

TensorFlow and LiteRT write these messages when their libraries are loaded, before they read any
setting.
"""

import os
import re
import subprocess
import sys

# Lines on which users cannot act.
CHATTER = (
    r"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR",
    r"I\d{4} [\d:.]+ +\d+ \w+\.cc:\d+\] ",  # information of TensorFlow
    r"INFO: ",  # information of LiteRT: that it uses XNNPACK
    # There is no graphics card. TensorFlow calls it an error.
    r"E\d{4} [\d:.]+ +\d+ cuda_platform\.cc:\d+\] failed call to cuInit: .*\(303\)",
    # A graph begins with bytes: they are not computed by oneDNN.
    r"E\d{4} [\d:.]+ +\d+ util\.cc:\d+\] oneDNN supports DT_UINT8 only on platforms with AVX-512",
)
_PATTERN = re.compile("|".join(CHATTER).encode())


def hide_chatter() -> None:
    """Sends what libraries write to standard error through a process that drops CHATTER.

    All other lines pass at once, also those of a process that crashes. Python's own standard error,
    with the tracebacks, is not touched.
    """
    python_stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    read_end, write_end = os.pipe()
    # A session of its own: Ctrl-C does not reach it, and it ends when its input does.
    subprocess.Popen([sys.executable, "-S", "-P", __file__], stdin=read_end, start_new_session=True)
    os.dup2(write_end, 2)
    for end in (read_end, write_end):
        os.close(end)
    sys.stderr = python_stderr


def main() -> None:
    """Copies standard input to standard error, without CHATTER."""
    for line in sys.stdin.buffer:
        if not _PATTERN.match(line):
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()


if __name__ == "__main__":
    main()
